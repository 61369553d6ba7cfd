"""Sequences that begin alike are laid out so that their common beginnings are read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stages.models.alike import alike
from stages.models.causal import hidden_states
from stages.models.texts import TokenIds
from stages.scoring.caches import Preamble, read_preamble, tokens_of

Integers = NDArray[np.int64]
ATTENDED = 512
"""Tokens of its row that a token attends to, seen or not, in the time that the rest of its reading
takes. Measured on SmolLM2-135M on a CPU; a wider model attends to more."""
PROBE = [[3, 1, 1], [3, 1, 2, 1], [3, 1, 2, 2, 1]]
"""Sequences that share two tokens, and two of them three, in ids that every vocabulary has."""


@dataclass(frozen=True)
class Tree:
    """A row of a batch: sequences in alphabetical order, each without what it shares with the one
    before it.

    A token sees those of its own sequence and has the position that it has there: it is read as
    if its sequence stood alone (Miao et al. 2024, SpecInfer, arXiv 2305.09781, section 4.2).
    """

    ids: TokenIds
    positions: list[int]  # of each token in its sequences
    ends: list[int]  # where in the row the first one stands that does not see the token
    members: tuple[int, ...]  # the sequences' indices
    places: tuple[Integers, ...]  # where in the row each member's tokens stand

    def __len__(self) -> int:
        return len(self.ids)


def grow(sequences: Sequence[TokenIds], longest: int) -> list[Tree]:
    """Sequences that begin alike in one tree of at most `longest` tokens, where that takes less
    time than reading them apart."""
    trees: list[Tree] = []
    group: list[int] = []
    before: TokenIds = []
    row = 0  # tokens of the group's tree
    for index in sorted(range(len(sequences)), key=sequences.__getitem__):
        sequence = sequences[index]
        new = len(sequence) - _alike(before, sequence)
        joins = _seconds(row + new) - _seconds(row) < _seconds(len(sequence))
        if group and joins and row + new <= longest:
            row += new
        else:
            if group:
                trees.append(plant(sequences, group))
            group, row = [], len(sequence)
        group.append(index)
        before = sequence
    return [*trees, plant(sequences, group)] if group else trees


def alone(sequences: Sequence[TokenIds]) -> list[Tree]:
    """Each sequence by itself."""
    return [plant(sequences, [index]) for index in range(len(sequences))]


def plant(sequences: Sequence[TokenIds], members: Sequence[int]) -> Tree:
    """One tree of `members`, which are in alphabetical order of their sequences."""
    ids: TokenIds = []
    positions: list[int] = []
    ends: list[int] = []
    path: list[int] = []
    paths = []
    before: TokenIds = []
    for member in members:
        sequence = sequences[member]
        shared, there = _alike(before, sequence), len(ids)
        for place in path[shared:]:
            ends[place] = there
        ids += sequence[shared:]
        positions += range(shared, len(sequence))
        path = [*path[:shared], *range(there, len(ids))]
        ends += [0] * (len(ids) - there)
        paths.append(np.array(path, dtype=np.int64))
        before = sequence
    for place in path:
        ends[place] = len(ids)
    return Tree(ids, positions, ends, tuple(members), tuple(paths))


def _alike(one: TokenIds, other: TokenIds) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _seconds(row: int) -> float:
    """That reading a row takes, in those of a token that attends to none."""
    return row + row * row / ATTENDED


def read_trees(
    model: PreTrainedModel, trees: Sequence[Tree], pad_id: int, preamble: Preamble | None = None
) -> Tensor:
    """Hidden states [trees, longest, hidden] of trees that follow `preamble`."""
    shape = (len(trees), max(map(len, trees)))
    ids = np.full(shape, pad_id)
    positions = np.zeros(shape, dtype=np.int64)
    # Padding sees itself: a row that sees nothing is NaN.
    ends = np.tile(np.arange(1, shape[1] + 1), (len(trees), 1))
    for row, tree in enumerate(trees):
        ids[row, : len(tree)] = tree.ids
        positions[row, : len(tree)] = tree.positions
        ends[row, : len(tree)] = tree.ends
    where, used = model.device, model.dtype
    if preamble is None and all(len(tree.members) == 1 for tree in trees):
        # Padding stands on the right, so the causal mask hides it.
        return hidden_states(model, torch.from_numpy(ids).to(where), None)
    reader = torch.arange(shape[1], device=where)[:, None]
    seen = (reader < torch.from_numpy(ends).to(where)[:, None, :]).tril()
    past = tokens_of(preamble)
    mask = torch.zeros((shape[0], 1, shape[1], past + shape[1]), dtype=used, device=where)
    mask[:, 0, :, past:].masked_fill_(~seen, torch.finfo(used).min)
    moved = [torch.from_numpy(side).to(where) for side in (ids, positions + past)]
    return hidden_states(model, moved[0], mask, moved[1], preamble)


@torch.inference_mode()
def reads_trees(model: PreTrainedModel) -> bool:
    """Whether trees leave the model's hidden states as they are; to be asked of one in fp32.

    They do not where positions are not given but counted (ALiBi), or where a state is carried
    from token to token (Mamba and its hybrids).
    """
    try:
        for shared in (0, 1):
            preamble = read_preamble(model, PROBE[0][:shared]) if shared else None
            tree = plant([one[shared:] for one in PROBE], range(len(PROBE)))
            found = read_trees(model, [tree, tree], 0, preamble)[1]
            for places, sequence in zip(tree.places, PROBE, strict=True):
                ids = torch.tensor([sequence], device=model.device)
                expected = hidden_states(model, ids, torch.ones_like(ids))[0, shared:]
                if not alike(found[places], expected):
                    return False
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return True
