"""How likely a causal model finds a continuation after its context."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stages.errors import UserError
from stages.models.causal import finished
from stages.models.finite import first_wrong_output, not_finite
from stages.models.sharing import dealt
from stages.models.texts import TokenIds, batches_by_tokens
from stages.scoring.caches import Preamble, read_beginning, sees_all, tokens_of
from stages.scoring.trees import Tree, alone, grow, read_trees

Pair = tuple[TokenIds, TokenIds]
HEAD_LOGITS = 2**23
"""Logits made at once. A batch's logits at all positions would be hundreds of megabytes."""
NORMALISED = 2**20
"""Logits in fp32 at once: 4 MB stay in the cache."""


@dataclass(frozen=True)
class Likelihoods:
    """Of n continuations, each array [n]."""

    logprobs: NDArray[np.float64]  # natural log, summed over the continuation's tokens
    tokens: NDArray[np.int64]  # of the continuation
    greedy: NDArray[np.bool_]  # each of its tokens is what `generate` would write there
    truncated: NDArray[np.bool_]  # scored without all that stands before it


@dataclass(frozen=True)
class Window:
    """Tokens that are read in one pass, of which the last `scored` are scored."""

    pair: int
    ids: TokenIds
    scored: int
    whole: bool  # it begins where the context begins

    @property
    def read(self) -> TokenIds:
        """The last token is only predicted."""
        return self.ids[:-1]

    @property
    def first(self) -> int:
        """The position of the token that predicts the first scored one."""
        return len(self.ids) - 1 - self.scored


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    pad_id: int,
    batch_tokens: int,
    longest: int,
    overlap: int | None = None,
    *,
    shared: bool,
) -> Likelihoods:
    """The log-likelihood of each continuation, given as (context, continuation) token ids.

    A context that does not fit into `longest` tokens beside its continuation loses its
    beginning, as in lm-evaluation-harness. With `overlap` (1 or more) such a pair is read in
    windows instead: see `windows`. A batch has at most `batch_tokens`, padding included.
    `shared`: those that begin alike are read as trees, and what all begin with is read
    once; to be had where `reads_trees` holds.

    Raises UserError where a continuation is empty or, without `overlap`, longer than `longest`,
    and where a value is not finite.
    """
    _check(pairs, longest, overlap)
    asked = [
        window
        for index, (context, continuation) in enumerate(pairs)
        for window in windows(index, context, continuation, longest, overlap)
    ]
    # A tree's mask shows a layer all that stands before, near or far.
    shared = shared and sees_all(model, max(len(window.read) for window in asked))
    before = [window.read[: window.first] for window in asked]
    preamble = read_beginning(model, before) if shared else None
    begun = tokens_of(preamble)
    rest = [window.read[begun:] for window in asked]
    trees = grow(rest, batch_tokens) if shared else alone(rest)
    sums, greedy = np.zeros(len(asked)), np.zeros(len(asked), dtype=bool)
    origin = None
    # A token of the preamble is not read again, but every row attends to it.
    costs = [len(tree) + begun // 8 for tree in trees]

    def read(batch: Iterable[int]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return _read(model, [trees[index] for index in batch], asked, pad_id, preamble)

    for batch, found in dealt(batches_by_tokens(costs, batch_tokens), read):
        members = [member for index in batch for member in trees[index].members]
        sums[members], greedy[members] = found
        if not (origin or np.isfinite(sums[members]).all()):
            origin = first_wrong_output(model, partial(read, batch))
    of_pair = [window.pair for window in asked]
    logprobs = np.bincount(of_pair, sums, len(pairs)).astype(np.float64)
    if wrong := int((~np.isfinite(logprobs)).sum()):
        raise UserError(not_finite(f"log-likelihoods of {wrong} of {len(pairs)} texts are", origin))
    tokens = np.array([len(continuation) for _, continuation in pairs], dtype=np.int64)
    truncated = np.bincount(of_pair, [not window.whole for window in asked], len(pairs)) > 0
    unlike = np.bincount(of_pair, ~greedy, len(pairs)) > 0
    return Likelihoods(logprobs, tokens, ~unlike, truncated)


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


def _read(
    model: PreTrainedModel,
    rows: Sequence[Tree],
    asked: Sequence[Window],
    pad_id: int,
    preamble: Preamble | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each member of each tree: the summed log-likelihood of its scored tokens, in float64,
    and whether all of them are what is written greedily."""
    hidden = read_trees(model, rows, pad_id, preamble)
    begun = tokens_of(preamble)
    places, targets, counts = [], [], []
    for row, tree in enumerate(rows):
        for member, there in zip(tree.members, tree.places, strict=True):
            window = asked[member]
            places.append(there[window.first - begun :] + row * hidden.shape[1])
            targets.append(window.ids[-window.scored :])
            counts.append(window.scored)
    starts = np.cumsum([0, *counts[:-1]])
    found, likeliest = _logprobs(
        model, hidden.flatten(0, 1), np.concatenate(places), np.concatenate(targets)
    )
    return np.add.reduceat(found, starts), np.logical_and.reduceat(likeliest, starts)


def _logprobs(
    model: PreTrainedModel,
    hidden: Tensor,
    places: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-likelihood of token `targets[n]` after state `places[n]` of `hidden` [states, hidden],
    and whether it is the likeliest; of several alike, as bf16 often has, the first.

    Several tokens may follow one state: the head is applied to each state once.
    """
    states, of_state = np.unique(places, return_inverse=True)
    order = np.argsort(of_state, kind="stable")
    head = model.get_output_embeddings()
    size = max(1, HEAD_LOGITS // head.out_features)
    found, likeliest = np.empty(len(places)), np.empty(len(places), dtype=bool)
    for start in range(0, len(states), size):
        part = hidden[torch.from_numpy(states[start : start + size]).to(hidden.device)]
        ends = np.searchsorted(of_state[order], [start, start + size])
        chosen = order[ends[0] : ends[1]]
        product: Tensor = head(part)
        rows = torch.from_numpy(of_state[chosen] - start).to(product.device)
        wanted = torch.from_numpy(targets[chosen]).to(product.device)
        of_wanted = finished(model.config, product[rows, wanted])
        at_once = max(1, NORMALISED // product.shape[1])
        pieces = [
            _best_and_total(finished(model.config, few)) for few in torch.split(product, at_once)
        ]
        best, total = map(torch.cat, zip(*pieces, strict=True))
        found[chosen] = (of_wanted - total[rows]).double().cpu().numpy()
        likeliest[chosen] = (wanted == best[rows]).cpu().numpy()
    return found, likeliest


def _best_and_total(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row: the token of the largest logit, and the log of the sum of all exponentials."""
    return logits.argmax(1), logits.logsumexp(1)


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
