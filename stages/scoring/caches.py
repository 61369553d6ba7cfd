"""Keys and values of what was read before."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from stages.models.causal import decoder
from stages.models.encoder import TokenIds

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

    @property
    def tokens(self) -> int:
        return int(self.get_seq_length())


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
    """One layer's keys and values in room that is taken once: a token more copies nothing."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._whole: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        states = (key_states, value_states)
        if not self._whole:
            self.lazy_initialization(*states)
            self._whole = [
                new.new_empty(*new.shape[:2], self._room, new.shape[-1]) for new in states
            ]
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for whole, new in zip(self._whole, states, strict=True):
            whole[:, :, start:end] = new
        return self._show(end)

    @classmethod
    def joined(cls, parts: Sequence[DynamicLayer], begun: int, room: int) -> "Buffer":
        """The rows of all parts. The first `begun` tokens stay where they are; what follows them
        ends at the same place in every row, and zeros stand between."""
        buffer = cls(room)
        buffer.lazy_initialization(parts[0].keys, parts[0].values)
        longest = max(part.get_seq_length() for part in parts)
        for states in ([part.keys for part in parts], [part.values for part in parts]):
            rows = sum(map(len, states))
            whole = states[0].new_zeros(rows, states[0].shape[1], room, states[0].shape[3])
            for own, there in zip(states, whole.split([len(own) for own in states]), strict=True):
                there[:, :, :begun] = own[:, :, :begun]
                there[:, :, longest - own.shape[2] + begun : longest] = own[:, :, begun:]
            buffer._whole.append(whole)
        buffer._show(longest)
        return buffer

    def batch_select_indices(self, indices: Tensor) -> None:
        self._whole = [whole[indices] for whole in self._whole]
        self._show(self.get_seq_length())

    def _show(self, end: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (whole[:, :, :end] for whole in self._whole)
        return self.keys, self.values


def buffers(room: int, rows: int, preamble: Preamble | None) -> Cache:
    """A cache for `rows` sequences of `room` tokens at most, which begin with `preamble`."""
    cache = Cache(layer_class_to_replicate=partial(Buffer, room))
    for index, layer in enumerate(preamble.layers if preamble is not None else []):
        cache.update(*(kept.expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values)), index)
    return cache


def joined(caches: Sequence[Cache], begun: int, room: int) -> Cache:
    """One cache for the rows of several, see `Buffer.joined`. They are used up: of no more than
    one layer there are two copies at once."""
    layers = []
    for _ in range(len(caches[0].layers)):
        layers.append(Buffer.joined([cache.layers.pop(0) for cache in caches], begun, room))
    return Cache(layers=layers)


def sees_all(model: PreTrainedModel, tokens: int) -> bool:
    """Whether the attention of every layer reaches over that many."""
    config = model.config.get_text_config()
    bounds = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return all(tokens <= bound for bound in bounds if isinstance(bound, int))
