"""Keys and values of what was read before."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from stages.models.causal import decoder
from stages.models.texts import TokenIds

REACHES = ("sliding_window", "attention_chunk_size", "window_size")
"""Under which settings have how far a layer's attention reaches; the last is GPT-Neo's."""
WORTH = 16
"""Tokens from which a common beginning is read apart."""


def beginning(sequences: Sequence[TokenIds]) -> TokenIds:
    """What all sequences begin with."""
    least, most = min(sequences), max(sequences)  # all others lie between them
    unlike = (n for n, tokens in enumerate(zip(least, most, strict=False)) if len(set(tokens)) > 1)
    return least[: next(unlike, len(least))]


class Preamble(DynamicCache):  # type: ignore[misc]
    """The keys and values of tokens that every row of every batch begins with.

    What rows add is not kept, so a batch leaves it as it was.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        layer = self.layers[layer_idx]
        rows = (len(key_states), -1, -1, -1)
        keys = torch.cat([layer.keys.expand(rows), key_states], dim=-2)
        return keys, torch.cat([layer.values.expand(rows), value_states], dim=-2)


def tokens_of(preamble: Preamble | None) -> int:
    return 0 if preamble is None else int(preamble.get_seq_length())


def read_preamble(model: PreTrainedModel, ids: TokenIds) -> Preamble:
    filled = DynamicCache()
    wanted = torch.tensor([ids], device=model.device)
    decoder(model)(input_ids=wanted, past_key_values=filled, use_cache=True)
    preamble = Preamble()
    preamble.layers = filled.layers
    return preamble


def read_beginning(model: PreTrainedModel, sequences: Sequence[TokenIds]) -> Preamble | None:
    """What all sequences begin with, read once; None where that is too little."""
    begun = beginning(sequences)
    worth = len(begun) >= WORTH and len(sequences) > 1
    return read_preamble(model, begun) if worth else None


class Buffer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, [rows, heads, room, size], in memory that is taken once."""

    def __init__(self, rows: int, room: int) -> None:
        super().__init__()
        self._shape = (rows, room)
        self._whole: list[Tensor] = []
        self.aim(slice(rows), 0)

    def aim(self, rows: slice, end: int) -> None:
        """What comes next belongs to `rows` and follows their first `end` tokens. Zeros are where
        nothing was written."""
        self._rows, self._end = rows, end
        if self._whole:
            self.keys, self.values = (whole[rows, :, :end] for whole in self._whole)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        states = (key_states, value_states)
        if not self._whole:
            self.lazy_initialization(*states)
            rows, room = self._shape
            self._whole = [new.new_zeros(rows, new.shape[1], room, new.shape[3]) for new in states]
        end = self._end + key_states.shape[-2]
        for whole, new in zip(self._whole, states, strict=True):
            whole[self._rows, :, self._end : end] = new
        self.aim(self._rows, end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self._end

    def batch_select_indices(self, indices: Tensor) -> None:
        self._whole = [whole[indices] for whole in self._whole]
        self.aim(slice(len(indices)), self._end)


def buffers(model: PreTrainedModel, rows: int, room: int, preamble: Preamble | None) -> Cache:
    """A cache for `rows` sequences of `room` tokens at most, which begin with `preamble`."""
    layers = model.config.get_text_config().num_hidden_layers
    cache = Cache(layers=[Buffer(rows, room) for _ in range(layers)])
    for index, layer in enumerate(preamble.layers if preamble is not None else []):
        cache.update(*(kept.expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values)), index)
    return cache


def sees_all(model: PreTrainedModel, tokens: int) -> bool:
    """Whether the attention of every layer reaches over that many."""
    config = model.config.get_text_config()
    bounds = [getattr(config, name, None) for name in REACHES]
    return all(tokens <= bound for bound in bounds if isinstance(bound, int))
