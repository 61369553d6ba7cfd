"""How likely a causal model finds a continuation after its context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from stages.errors import UserError
from stages.models.causal import head_logits, hidden_states
from stages.models.encoder import TokenIds, batches_by_tokens, pad

Pair = tuple[TokenIds, TokenIds]
HEAD_LOGITS = 2**24
"""Logits made at once: 64 MB in fp32. A batch's logits at all positions would be gigabytes."""


@dataclass(frozen=True)
class Likelihoods:
    """Of n continuations, each array [n]."""

    logprobs: NDArray[np.float64]  # natural log, summed over the continuation's tokens
    tokens: NDArray[np.int64]  # of the continuation
    truncated: NDArray[np.bool_]  # scored without all that stands before it


@dataclass(frozen=True)
class Window:
    """Tokens that are read in one pass, of which the last `scored` are scored."""

    pair: int
    ids: TokenIds
    scored: int
    whole: bool  # it begins where the context begins


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    pad_id: int,
    batch_tokens: int,
    longest: int,
    overlap: int | None = None,
) -> Likelihoods:
    """The log-likelihood of each continuation, given as (context, continuation) token ids.

    A context that does not fit into `longest` tokens beside its continuation loses its
    beginning, as in lm-evaluation-harness. With `overlap` (1 or more) such a pair is read in
    windows instead: see `windows`. A batch has at most `batch_tokens`, padding included.

    Raises UserError where a continuation is empty or, without `overlap`, longer than `longest`,
    and where a value is not finite.
    """
    _check(pairs, longest, overlap)
    asked = [
        window
        for index, (context, continuation) in enumerate(pairs)
        for window in windows(index, context, continuation, longest, overlap)
    ]
    logprobs = np.zeros(len(pairs))
    truncated = np.zeros(len(pairs), dtype=bool)
    for batch in batches_by_tokens([len(window.ids) - 1 for window in asked], batch_tokens):
        rows = [asked[index] for index in batch]
        sums = _window_sums(model, rows, pad_id)
        for row, total in zip(rows, sums, strict=True):
            logprobs[row.pair] += total
            truncated[row.pair] |= not row.whole
    if wrong := int((~np.isfinite(logprobs)).sum()):
        raise UserError(f"log-likelihoods of {wrong} of {len(pairs)} texts are not finite")
    tokens = np.array([len(continuation) for _, continuation in pairs], dtype=np.int64)
    return Likelihoods(logprobs, tokens, truncated)


def windows(
    pair: int, context: TokenIds, continuation: TokenIds, longest: int, overlap: int | None
) -> Iterator[Window]:
    """Cut a pair into passes of `longest` tokens in which each token of it is scored once.

    The last token of a window is only predicted, so a window has one more. The first window
    keeps the context's beginning if it can; each later one is full, and its first scored token
    has at least `overlap` tokens before it. Without `overlap` there is one window, at the end.
    These are the windows of lm-evaluation-harness (`get_rolling_token_windows`).
    """
    ids = [*context, *continuation]
    done = len(context)
    if overlap is None:
        ends = [len(ids)]
    else:
        first = longest + 1 if done <= longest else done + longest - overlap + 1
        ends = [*range(first, len(ids), longest - overlap + 1), len(ids)]
    for end in ends:
        start = max(0, end - longest - 1)
        yield Window(pair, ids[start:end], end - done, whole=start == 0)
        done = end


def _window_sums(
    model: PreTrainedModel, rows: Sequence[Window], pad_id: int
) -> NDArray[np.float64]:
    """The summed log-likelihood of each window's scored tokens, in float64."""
    ids, mask = pad([row.ids[:-1] for row in rows], pad_id, model.device)
    hidden = hidden_states(model, ids, mask)
    scored = [range(len(row.ids) - 1 - row.scored, len(row.ids) - 1) for row in rows]
    places = torch.tensor([[n, at] for n, ats in enumerate(scored) for at in ats]).to(ids.device)
    targets = torch.tensor([token for row in rows for token in row.ids[-row.scored :]])
    found = _logprobs(model, hidden[places[:, 0], places[:, 1]], targets.to(ids.device))
    starts = np.cumsum([0, *(row.scored for row in rows[:-1])])
    return np.asarray(np.add.reduceat(found.double().cpu().numpy(), starts))


def _logprobs(model: PreTrainedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Hidden states [n, hidden] and the tokens [n] that follow them -> log-likelihoods [n]."""
    size = max(1, HEAD_LOGITS // model.get_output_embeddings().weight.shape[0])
    parts = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    return torch.cat(
        [
            -functional.cross_entropy(head_logits(model, part), wanted, reduction="none")
            for part, wanted in parts
        ]
    )


def _check(pairs: Sequence[Pair], longest: int, overlap: int | None) -> None:
    if overlap is not None and not 1 <= overlap <= longest:
        raise UserError(f"overlap = {overlap}: it goes from 1 to the model's {longest} tokens")
    if not all(context for context, _ in pairs):
        raise ValueError("a context has no tokens: the first token would have nothing to follow")
    if empty := sum(not continuation for _, continuation in pairs):
        raise UserError(
            f"{empty} of {len(pairs)} continuations have no tokens of their own: they are empty, "
            "or merge with the last token of their context; begin them with a space"
        )
    long = sum(len(continuation) > longest for _, continuation in pairs)
    if overlap is None and long:
        raise UserError(
            f"{long} of {len(pairs)} continuations are longer than the model's {longest} tokens"
        )
