"""An encoder: texts to one vector each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.finite import first_wrong_output, not_finite
from stages.models.pretrained import load_tokenizer, load_weights, reading_tokenizer

TokenIds = list[int]
UNLIMITED = 131_072
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


class Encoder(nn.Module):
    """A transformer body and the pooling of its last hidden states."""

    body: Any  # a transformers model, or PEFT's wrapper of one

    def __init__(self, body: nn.Module, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[batch, length] token ids and 0/1 mask -> [batch, hidden], in the body's dtype."""
        hidden: Tensor = self.body(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        hidden = hidden[:, -input_ids.shape[1] :]  # virtual tokens stand in front, and stay out
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # Sums of hundreds of bf16 values lose digits; the mean is taken in fp32.
        total = (hidden * mask).sum(1, dtype=torch.float32)
        return (total / mask.sum(1, dtype=torch.float32)).to(hidden.dtype)


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


class Tokenizer:
    """Texts to token ids, special tokens included, cut at the model's or the task's length."""

    def __init__(self, folder: Path, longest: int) -> None:
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self._longest = longest
        self.pad_id = self._tokenizer.pad_token_id or 0

    def __call__(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        length = min(max_length, self._longest)
        with reading_tokenizer(self._folder):
            encoded = self._tokenizer(list(texts), truncation=True, max_length=length)
        return list(encoded["input_ids"])

    def truncated(self, texts: Sequence[str], max_length: int) -> int:
        """How many of the texts are longer than what is read of them."""
        length = min(max_length, self._longest)
        return sum(len(row) > length for row in self._tokenizer(list(texts))["input_ids"])


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


def pad(rows: Sequence[TokenIds], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of several texts -> ids and 0/1 mask, both [rows, longest]."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Indices of rows of like length, longest first, at most `batch_tokens` with padding."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // lengths[order[start]])
        yield order[start : start + size]
        start += size


@torch.inference_mode()
def embed(
    encoder: Encoder, rows: Sequence[TokenIds], pad_id: int, batch_tokens: int
) -> NDArray[np.float32]:
    """Token ids of n texts -> [n, hidden] in fp32. Raises UserError on a non-finite value."""
    parameter = next(encoder.parameters())
    found: NDArray[np.float32] | None = None
    for batch in batches_by_tokens([len(row) for row in rows], batch_tokens):
        ids, mask = pad([rows[index] for index in batch], pad_id, parameter.device)
        pooled = encoder(ids, mask).float().cpu().numpy()
        if found is None:
            found = np.empty((len(rows), pooled.shape[1]), dtype=np.float32)
        found[batch] = pooled
    if found is None:
        raise ValueError("no texts to embed")
    hit = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(hit):
        ids, mask = pad([rows[hit[0]]], pad_id, parameter.device)
        origin = first_wrong_output(encoder, lambda: encoder(ids, mask))
        raise UserError(not_finite(f"embeddings of {len(hit)} of {len(rows)} texts are", origin))
    return found
