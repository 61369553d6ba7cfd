"""What a causal model goes on to write."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stages.errors import UserError
from stages.models.causal import head_logits, longest_input
from stages.models.finite import first_wrong, not_finite
from stages.models.sharing import dealt
from stages.models.texts import TokenIds, batches_by_tokens
from stages.phases import phase
from stages.scoring.caches import read_beginning, sees_all, tokens_of
from stages.scoring.prompts import advance, read_prompts

NUCLEUS = 1024
"""Tokens that are looked at first for top-p; sorting a whole vocabulary takes ten times as long."""
CACHED = 16
"""Tokens of answers that are written at once, prompts included, for each of a batch that is read:
their keys and values stay until the last of them ends."""


@dataclass(frozen=True)
class Sampling:
    """Draw from softmax(logits / temperature), cut to the most probable tokens that hold
    `top_p` of it (Holtzman et al. 2020, arXiv 1904.09751)."""

    temperature: float
    top_p: float
    seed: int


def never(_: TokenIds) -> bool:
    """An answer that nothing but an end token ends."""
    return False


@torch.inference_mode()
@phase("write")
def generate(
    model: PreTrainedModel,
    prompts: Sequence[TokenIds],
    pad_id: int,
    eos_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    sample: Sampling | None = None,
    *,
    shared: bool,
    most_tokens: int = sys.maxsize,
    stop: Callable[[TokenIds], bool] = never,
) -> list[TokenIds]:
    """Up to `max_new_tokens` after each prompt, the end token left out; greedy without `sample`.

    An answer also ends with the token at which `stop`, given the answer so far, says so. What is
    drawn for a prompt depends on the seed, the prompt's index and the position, not on the
    batch: `batch_size` answers, or as many as have `most_tokens` at most, prompts and padding
    included, and one at least. A prompt loses its beginning where it does not fit, see `room`.
    `shared`: what all prompts begin with is read once; to be had where `reads_trees` holds.
    """
    left = room(model, max_new_tokens)
    draws = np.zeros((len(prompts), max_new_tokens))
    if sample is not None:
        for index in range(len(prompts)):
            generator = np.random.default_rng((sample.seed, index))
            draws[index] = generator.random(max_new_tokens)
    cut = [prompt[-left:] for prompt in prompts]
    # Padding between a preamble and its prompt would move the preamble out of a layer's reach.
    near = sees_all(model, max(map(len, cut)) + max_new_tokens)
    before = [prompt[:-1] for prompt in cut]
    preamble = read_beginning(model, before) if shared and near else None
    begun = tokens_of(preamble)
    rest = [prompt[begun:] for prompt in cut]
    answers: list[TokenIds] = [[] for _ in prompts]
    lengths = [len(prompt) + max_new_tokens for prompt in cut]

    def write(batch: NDArray[np.intp]) -> list[TokenIds]:
        asked = [rest[index] for index in batch]
        whole = len(cut[batch[0]]) + max_new_tokens if shared else None
        # Nothing here holds on to a batch's cache while the next is filled.
        return _continue(
            model,
            read_prompts(model, asked, pad_id, preamble, whole),
            eos_ids,
            draws[batch],
            sample,
            stop,
        )

    batches = batches_by_tokens(lengths, most_tokens, batch_size, "writing")
    for batch, written in dealt(batches, write):
        for index, tokens in zip(batch, written, strict=True):
            answers[index] = tokens
    return answers


def room(model: PreTrainedModel, max_new_tokens: int) -> int:
    """The tokens that a prompt may have. Raises UserError where none are left."""
    longest = longest_input(model)
    # The last token that is written is not read.
    if max_new_tokens > longest:
        raise UserError(
            f"max_new_tokens = {max_new_tokens}: the model reads no more than {longest} tokens"
        )
    return longest - max_new_tokens + 1


def _continue(
    model: PreTrainedModel,
    prompted: tuple[Tensor, Tensor, Any],
    eos_ids: Sequence[int],
    draws: NDArray[np.float64],
    sample: Sampling | None,
    stop: Callable[[TokenIds], bool],
) -> list[TokenIds]:
    """One batch, from what `read_prompts` returned; a row leaves it when it ends."""
    state, mask, cache = prompted
    answers: list[TokenIds] = [[] for _ in state]
    rows = list(range(len(state)))
    for step in range(draws.shape[1]):
        logits = head_logits(model, state)
        if wrong := first_wrong([("the states before the head", state), ("the head", logits)]):
            raise UserError(not_finite(f"logits of token {step + 1} of an answer are", wrong))
        chosen = logits.argmax(1) if sample is None else _draw(logits, draws[rows, step], sample)
        kept = []
        for place, token in enumerate(chosen.tolist()):
            if token in eos_ids:
                continue
            answer = answers[rows[place]]
            answer.append(token)
            if not stop(answer):
                kept.append(place)
        if not kept or step + 1 == draws.shape[1]:
            break
        if len(kept) < len(rows):
            rows = [rows[place] for place in kept]
            index = torch.tensor(kept)  # states and mask may lie on different devices
            chosen, mask = chosen[index], mask[index]
            cache.batch_select_indices(index)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        state, cache = advance(model, chosen.unsqueeze(1), mask, cache)
    return answers


def _draw(logits: Tensor, draws: NDArray[np.float64], sample: Sampling) -> Tensor:
    """Logits [rows, vocabulary] and uniform draws [rows] -> tokens [rows], by inversion."""
    probabilities = (logits / sample.temperature).softmax(1)
    wanted = torch.from_numpy(draws).to(probabilities)
    shares, tokens = probabilities.topk(min(NUCLEUS, logits.shape[1]), dim=1)
    chosen = _inverted(shares, tokens, wanted, sample.top_p)
    short = (shares.sum(1) < sample.top_p).nonzero()[:, 0]
    if len(short):
        shares, tokens = probabilities[short].sort(dim=1, descending=True)
        chosen[short] = _inverted(shares, tokens, wanted[short], sample.top_p)
    return chosen


def _inverted(shares: Tensor, tokens: Tensor, draws: Tensor, top_p: float) -> Tensor:
    """Tokens and their shares, the largest first, both [rows, tokens], and draws [rows] -> tokens
    [rows]."""
    inside = shares.cumsum(1) - shares < top_p
    up_to = torch.where(inside, shares, 0).cumsum(1)
    wanted = draws[:, None] * up_to[:, -1:]
    # A draw just under 1 may round up to the whole share.
    places = torch.minimum((up_to <= wanted).sum(1), inside.sum(1) - 1)
    return tokens.gather(1, places.unsqueeze(1)).squeeze(1)
