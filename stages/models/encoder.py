"""An encoder: texts to one vector each."""

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.documents import read_documents
from stages.models.finite import first_wrong_output, not_finite
from stages.models.pretrained import load_weights
from stages.models.sharing import dealt
from stages.models.texts import Inputs, TokenIds, batches_by_tokens

UNLIMITED = 131_072
OFFSET_POSITIONS = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)


class Encoder(nn.Module):
    """A transformer body and the pooling of its last hidden states."""

    body: Any  # a transformers model, or PEFT's wrapper of one

    def __init__(self, body: nn.Module, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling
        self.unpadded = False
        """Whether the body reads texts as documents of one row."""

        self._segmented = _reads_segments(body)

    def states(self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None) -> Tensor:
        """[batch, length] token ids, 0/1 mask and, of pairs, 0/1 segments -> the last states
        [batch, length, hidden], in the body's dtype. A body that does not tell segments apart is
        given none."""
        given = {"token_type_ids": segments} if segments is not None and self._segmented else {}
        if self.unpadded:
            return read_documents(self.body, input_ids, attention_mask.bool(), **given)
        hidden: Tensor = self.body(
            input_ids=input_ids, attention_mask=attention_mask, **given
        ).last_hidden_state
        return hidden[:, -input_ids.shape[1] :]  # virtual tokens stand in front, and stay out

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None
    ) -> Tensor:
        """The same -> [batch, hidden], pooled."""
        hidden = self.states(input_ids, attention_mask, segments)
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # Sums of hundreds of bf16 values lose digits; the mean is taken in fp32.
        total = (hidden * mask).sum(1, dtype=torch.float32)
        return (total / mask.sum(1, dtype=torch.float32)).to(hidden.dtype)


def _reads_segments(body: nn.Module) -> bool:
    """A tokenizer may tell of segments where the body has no embeddings for them (RoBERTa), or
    takes none (MPNet)."""
    taken = "token_type_ids" in inspect.signature(body.forward).parameters
    kinds = getattr(getattr(body, "config", None), "type_vocab_size", 2)
    return taken and kinds > 1


def load_encoder(folder: Path, pooling: str) -> Encoder:
    """Load an encoder in fp32, in evaluation mode. Raises UserError where it is none."""
    body, lacking = load_weights(transformers.AutoModel, folder)
    missing = [key for key in lacking if not key.startswith("pooler.")]
    if missing:
        named = ", ".join(missing[:3])
        raise UserError(f"{folder}: no whole encoder: {len(missing)} weights missing ({named})")
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # its output is not used: it would neither train nor be an adapter's
    return Encoder(body, pooling).eval()


def longest_input(encoder: Encoder) -> int:
    """Tokens that the positions of the model reach, special ones included, virtual ones not."""
    config = encoder.body.config
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        return UNLIMITED
    adapter = getattr(encoder.body, "active_peft_config", None)
    virtual: int = getattr(adapter, "num_virtual_tokens", 0)
    # RoBERTa's positions start after the padding id.
    offset = config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    return longest - offset - virtual


@torch.inference_mode()
def embed(
    encoder: Encoder, rows: Sequence[TokenIds] | Inputs, pad_id: int, batch_tokens: int
) -> NDArray[np.float32]:
    """Token ids of n texts -> [n, hidden] in fp32. Raises UserError on a non-finite value."""
    inputs = rows if isinstance(rows, Inputs) else Inputs(list(rows))
    where = next(encoder.parameters()).device
    found: NDArray[np.float32] | None = None

    def read(batch: NDArray[np.intp]) -> NDArray[np.float32]:
        pooled: Tensor = encoder(*inputs.batch(batch, pad_id, where))
        return pooled.float().cpu().numpy()

    batches = batches_by_tokens(inputs.lengths(range(len(rows))), batch_tokens)
    for batch, pooled in dealt(batches, read):
        if found is None:
            found = np.empty((len(rows), pooled.shape[1]), dtype=np.float32)
        found[batch] = pooled
    if found is None:
        raise ValueError("no texts to embed")
    hit = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(hit):
        wrong = inputs.batch(hit[:1], pad_id, where)
        origin = first_wrong_output(encoder, lambda: encoder(*wrong))
        raise UserError(not_finite(f"embeddings of {len(hit)} of {len(rows)} texts are", origin))
    return found


@torch.inference_mode()
def place_states(
    encoder: Encoder, inputs: Inputs, pad_id: int, batch_tokens: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each row and the states [places, hidden] of its places, in fp32, rows in the order in which
    they are read. Raises UserError on a non-finite value."""
    assert inputs.places is not None
    where = next(encoder.parameters()).device

    def read(batch: NDArray[np.intp]) -> list[NDArray[np.float32]]:
        assert inputs.places is not None
        given = inputs.batch(batch, pad_id, where)
        states = encoder.states(*given).float().cpu().numpy()
        if not np.isfinite(states[given[1].cpu().numpy() == 1]).all():
            origin = first_wrong_output(encoder, partial(encoder.states, *given))
            raise UserError(not_finite(f"states of some of {len(batch)} texts are", origin))
        rows = zip(batch.tolist(), states, strict=True)
        return [of_row[inputs.places[row]] for row, of_row in rows]

    batches = batches_by_tokens(inputs.lengths(range(len(inputs))), batch_tokens)
    for batch, of_batch in dealt(batches, read):
        yield from zip(batch.tolist(), of_batch, strict=True)


def features(
    encoder: Encoder, inputs: Inputs, pad_id: int, batch_tokens: int
) -> list[NDArray[np.float32]]:
    """What a head sees of each row, [k, hidden]: its pooled states, or those of its places."""
    if inputs.places is None:
        return list(embed(encoder, inputs, pad_id, batch_tokens)[:, None])
    found = dict(place_states(encoder, inputs, pad_id, batch_tokens))
    states = [found[row] for row in range(len(inputs))]
    return [of_row.reshape(1, -1) for of_row in states] if inputs.joined else states
