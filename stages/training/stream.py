"""A stream: rows of one task to train on, and the trainee that takes their loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.training import order
from stages.training.masked import MaskedRows
from stages.training.trainee import Rows, Trainee


@dataclass(frozen=True)
class Stream:
    """`share`: rows drawn a step, as a share of the run's batch size.

    `chunk`: rows that come together. A share of less than a chunk a step comes every so many
    steps, evenly. `places`: the rows that one epoch consists of, where that is not each row
    once; a row may stand there several times. `whole`: a row's loss depends on those beside it,
    so that a step's rows are taken at once.
    """

    task: str
    trainee: Trainee
    rows: Rows
    share: float
    chunk: int = 1
    places: Sequence[int] | None = None
    whole: bool = False

    def drawn(self, batch_size: int, step: int) -> int:
        """Rows drawn before `step`."""
        # Rounded, so that 0.1 + 0.2 of a chunk is not a hair less than 0.3.
        return self.chunk * math.floor(round(step * batch_size * self.share / self.chunk, 9))

    def batch(self, batch_size: int, seed: int, step: int) -> list[int]:
        """The rows of step `step` (from 0), over all processes; none at some steps."""
        return self._between(batch_size, seed, step, step + 1)

    def part(self, chosen: Sequence[int], number: int, count: int) -> Sequence[int]:
        """Of the rows of a step, those that the share `number` of `count` takes; all or none of
        a stream that is `whole`."""
        if self.whole or self.trainee.in_batch:
            return chosen if number == 0 else []
        return chosen[number::count]

    def at(self, seed: int, step: int) -> "Stream":
        """With the masks of step `step`, where its rows are read with masks."""
        if not isinstance(self.rows, MaskedRows):
            return self
        return replace(self, rows=self.rows.at(seed, step))

    def seen(self, batch_size: int, seed: int, steps: int) -> list[int]:
        """The rows of the first `steps` steps, each once, in order."""
        return sorted(set(self._between(batch_size, seed, 0, steps)))

    def _between(self, batch_size: int, seed: int, first: int, end: int) -> list[int]:
        places = np.arange(len(self.rows)) if self.places is None else np.asarray(self.places)
        drawn = self.drawn(batch_size, first), self.drawn(batch_size, end)
        return [int(row) for row in places[order.draw(len(places), seed, *drawn)]]

    def of(self, places: Sequence[int]) -> "Stream":
        """The same with other rows in an epoch."""
        return replace(self, places=places)
