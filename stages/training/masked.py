"""An encoder in training on texts of which some tokens are masked (Devlin et al. 2019, arXiv
1810.04805, section 3.1), as continued pre-training on a domain has it (Gururangan et al. 2020,
arXiv 2004.10964)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from stages.models.encoder import Encoder
from stages.models.masked import Masking
from stages.models.texts import TokenIds, pad
from stages.tasks.examples import Examples
from stages.training import losses
from stages.training.trainee import Output, Rows, Trainee

ASKED = 0.15
"""Of a text's tokens: those that are to be told."""
MASKED, OTHER = 0.8, 0.1
"""Of those: in whose place the mask is read, or any token; the others are read as they are."""


@dataclass(frozen=True)
class MaskedRows:
    """Token ids of each text, and the places, one or more, of those that it may be asked for.

    `vocabulary`: how many tokens there are. `drawn`: what the masks derive from, with the row: the
    same ones at every look, and others at each step. `kept`: the examples that rows were made of,
    in order; None where of all.
    """

    ids: list[TokenIds]
    places: list[list[int]]
    mask_id: int
    vocabulary: int
    drawn: tuple[int, int] = (0, 0)
    kept: list[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def owners(self) -> Sequence[int]:
        return range(len(self)) if self.kept is None else self.kept

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return [len(self.ids[i]) for i in indices]

    def weight(self, indices: Sequence[int]) -> int:
        return sum(self._count(i) for i in indices)

    def at(self, seed: int, step: int) -> "MaskedRows":
        """As step `step` (from 0) reads them."""
        return replace(self, drawn=(seed, step + 1))

    def masked(self, row: int) -> tuple[TokenIds, list[int]]:
        """The tokens that are read, and the places that are asked."""
        # A stream of its own: the seeds of `order` must not choose rows and masks alike.
        stream = np.random.SeedSequence((*self.drawn, row), spawn_key=(2,))
        draw = np.random.default_rng(stream)
        places = draw.permutation(self.places[row])[: self._count(row)]
        kind, other = draw.random(len(places)), draw.integers(self.vocabulary, size=len(places))
        ids = np.array(self.ids[row])
        kept_or_other = np.where(kind < MASKED + OTHER, other, ids[places])
        ids[places] = np.where(kind < MASKED, self.mask_id, kept_or_other)
        return ids.tolist(), places.tolist()

    def _count(self, row: int) -> int:
        return max(1, round(ASKED * len(self.places[row])))


def tokenise(examples: Examples, masking: Masking) -> MaskedRows:
    """The texts, without those that have no token."""
    inputs = masking.read(examples.column("text"), examples.task.max_length)
    assert inputs.places is not None
    kept = [number for number, places in enumerate(inputs.places) if places]
    ids, places = ([of_all[number] for number in kept] for of_all in (inputs.ids, inputs.places))
    return MaskedRows(ids, places, masking.mask_id, masking.vocabulary, kept=kept)


class MaskedTrainee(Trainee):
    """The head's own weights are the base's, and stay so: before, after and at every step of a
    sequence a text is judged by the same head. What it shares with the body is learned there."""

    def __init__(self, encoder: Encoder, masking: Masking, pad_id: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.vocabulary = masking.head
        self.pad_id = pad_id

    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        """The cross-entropy of each row's asked tokens. The head is applied there alone."""
        assert isinstance(rows, MaskedRows)
        drawn = [rows.masked(i) for i in indices]
        read, mask = pad([ids for ids, _ in drawn], self.pad_id, self.device)
        owner = [at for at, (_, places) in enumerate(drawn) for _ in places]
        places = [place for _, of_row in drawn for place in of_row]
        pairs = zip(indices, drawn, strict=True)
        wanted = [rows.ids[i][place] for i, (_, of_row) in pairs for place in of_row]
        of_rows = torch.tensor(owner, device=self.device)
        labels = torch.tensor(wanted, device=self.device)
        features = self.encoder.states(read, mask, None)[owner, places]
        logits = self.vocabulary(features)
        found = losses.classification(logits, labels)
        by_row = torch.zeros(len(indices), device=self.device).index_add(0, of_rows, found)
        return Output(by_row, features, of_rows, lambda: logits, labels)
