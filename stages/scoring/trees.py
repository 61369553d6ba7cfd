"""Sequences that begin alike are laid out so that their common beginning is read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stages.models.causal import hidden_states
from stages.models.encoder import TokenIds
from stages.scoring.caches import Preamble, beginning, read_preamble

Integers = NDArray[np.int64]
WORTH = 16
"""Sequences are joined where that saves a sixteenth of their row."""
PROBE = [[3, 1, 2, 1], [3, 1, 2, 2, 1], [3, 1, 1]]
"""Sequences that share two tokens, in ids that every vocabulary has."""
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Tree:
    """A row of a batch: a trunk, then what each sequence has beyond it, one after the other.

    A token sees the trunk and its own branch, and has the position that it has in its sequence:
    it is read as if its sequence stood alone (Miao et al. 2024, SpecInfer, arXiv 2305.09781,
    section 4.2). `members`: the sequences' indices, in the order of `branches`.
    """

    trunk: TokenIds
    branches: tuple[TokenIds, ...]
    members: tuple[int, ...]

    @property
    def ids(self) -> TokenIds:
        return [*self.trunk, *(token for branch in self.branches for token in branch)]

    def __len__(self) -> int:
        return len(self.trunk) + sum(map(len, self.branches))

    def positions(self) -> Integers:
        """Of each token of the row in its own sequence."""
        begun = len(self.trunk)
        own = [np.arange(begun, begun + len(branch)) for branch in self.branches]
        return np.concatenate([np.arange(begun), *own])

    def owners(self) -> Integers:
        """0 for a token of the trunk, n for one of the n-th branch."""
        return np.repeat(range(len(self.branches) + 1), [len(self.trunk), *map(len, self.branches)])

    def places(self, member: int, positions: Integers) -> Integers:
        """Where in the row the tokens at `positions` of the n-th member stand."""
        before = sum(map(len, self.branches[:member]))
        return np.where(positions < len(self.trunk), positions, positions + before)


def grow(sequences: Sequence[TokenIds], longest: int) -> list[Tree]:
    """Neighbours that begin alike in one tree of at most `longest` tokens, in their order.

    What all sequences share does not bring two of them together: it tells nothing about them.
    """
    common = len(beginning(sequences))
    trees: list[Tree] = []
    group: list[int] = []
    shared = 0  # tokens that all of the group begin with
    for index, sequence in enumerate(sequences):
        if group:
            both = len(beginning([sequences[group[0]][:shared], sequence]))
            saved, would_save = len(group) - 1, len(group)
            row = both + sum(len(sequences[one]) - both for one in (*group, index))
            gain = would_save * (both - common) - saved * (shared - common)
            if gain > 0 and would_save * (both - common) * WORTH >= row and row <= longest:
                group, shared = [*group, index], both
                continue
            trees.append(_tree(sequences, group, shared))
        group, shared = [index], len(sequence)
    return [*trees, _tree(sequences, group, shared)] if group else trees


def alone(sequences: Sequence[TokenIds]) -> list[Tree]:
    """Each sequence by itself."""
    return [_tree(sequences, [index], len(one)) for index, one in enumerate(sequences)]


def _tree(sequences: Sequence[TokenIds], group: Sequence[int], shared: int) -> Tree:
    rests = tuple(sequences[one][shared:] for one in group)
    return Tree(sequences[group[0]][:shared], rests, tuple(group))


def read_trees(
    model: PreTrainedModel, trees: Sequence[Tree], pad_id: int, preamble: Preamble | None = None
) -> Tensor:
    """Hidden states [trees, longest, hidden] of trees that follow `preamble`."""
    begun = 0 if preamble is None else preamble.tokens
    shape = (len(trees), max(map(len, trees)))
    ids = np.full(shape, pad_id)
    positions = np.zeros(shape, dtype=np.int64)
    owners = np.full(shape, -1)  # of padding, which sees itself: a row that sees nothing is NaN
    for row, tree in enumerate(trees):
        ids[row, : len(tree)] = tree.ids
        positions[row, : len(tree)] = tree.positions() + begun
        owners[row, : len(tree)] = tree.owners()
    where, used = model.device, model.dtype
    if begun == 0 and all(len(tree.members) == 1 for tree in trees):
        # Padding stands on the right, so the causal mask hides it.
        return hidden_states(model, torch.from_numpy(ids).to(where), None)
    owner = torch.from_numpy(owners).to(where)
    seen = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
    seen = seen.tril()
    mask = torch.zeros((shape[0], 1, shape[1], begun + shape[1]), dtype=used, device=where)
    mask[:, 0, :, begun:].masked_fill_(~seen, torch.finfo(used).min)
    moved = [torch.from_numpy(side).to(where) for side in (ids, positions)]
    return hidden_states(model, moved[0], mask, moved[1], preamble)


@torch.inference_mode()
def reads_trees(model: PreTrainedModel) -> bool:
    """Whether trees leave the model's hidden states as they are; to be asked of one in fp32.

    They do not where positions are not given but counted (ALiBi), or where a state is carried
    from token to token (Mamba and its hybrids).
    """
    try:
        for begun in (0, 1):
            preamble = read_preamble(model, PROBE[0][:begun]) if begun else None
            tree = _tree([one[begun:] for one in PROBE], range(len(PROBE)), 2 - begun)
            found = read_trees(model, [tree, tree], 0, preamble)[1]
            for member, sequence in enumerate(PROBE):
                ids = torch.tensor([sequence], device=model.device)
                expected = hidden_states(model, ids, torch.ones_like(ids))[0, begun:]
                places = tree.places(member, np.arange(len(sequence) - begun))
                if not torch.allclose(found[places], expected, rtol=TOLERANCE, atol=TOLERANCE):
                    return False
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return True
