"""What compare has read and found, before it is put into words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.statistics.comparison import Case
from stages.statistics.folds import Validated
from stages.statistics.measures import Measure
from stages.statistics.results import RunResult
from stages.statistics.sequence import SequenceResult


@dataclass(frozen=True)
class Told:
    """A table and what its file's metadata says."""

    rows: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def provenance(self) -> Mapping[str, Any]:
        made: Mapping[str, Any] = self.about["provenance"]
        return made


@dataclass(frozen=True)
class OfVariant:
    """The records of a model derived from a run, and what became of it. `kind`: see
    stages/config/variants.py."""

    kind: str
    rows: pd.DataFrame
    result: RunResult


@dataclass(frozen=True)
class Ran:
    """What a run left behind, and what became of it.

    `case`: the base, to be compared with a run that learns what this one does. `earlier`, `later`:
    the case's other targets, learned by the steps before it, and not. `begun_with`: what these
    steps have seen.
    """

    case: Case
    earlier: tuple[str, ...]
    later: tuple[str, ...]
    begun_with: tuple[str, ...]
    records: Told
    training: Told
    drift: pd.DataFrame
    result: RunResult
    variants: Mapping[str, OfVariant]
    """Models derived from it, by name."""
    folds: Mapping[str, Validated]
    """Its cross-validation, by target; empty without one."""

    @property
    def seen(self) -> list[str]:
        """The retain tasks and earlier targets whose train split was used by methods of the run, or
        of the steps before."""
        return sorted({*self.training.about["seen"], *self.begun_with})


@dataclass(frozen=True)
class Ensemble:
    """Several models of a case asked as one, and what became of it.

    `models`: how many. `case`: the base on the tasks that can be averaged; `left_out`: the kinds of
    the others, by task. `seen`: tasks that a method of any of the `runs` has used.
    """

    runs: tuple[str, ...]
    models: int
    case: Case
    result: RunResult
    seen: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """A case: its base, its runs by name, the card of its data and model, and how far its target's
    data is from what it is to keep. `prompted`: records of the base with a few-shot prompt, which
    `base` leaves out. `sequences`: by their last run."""

    name: str
    case: Case
    base: Told
    prompted: pd.DataFrame
    card: Mapping[str, Any]
    shift: Mapping[str, Any]
    runs: Mapping[str, Ran]
    ensembles: Mapping[str, Ensemble]
    sequences: Mapping[str, SequenceResult]

    @property
    def seen(self) -> tuple[str, ...]:
        """The retain tasks and earlier targets that any of the runs has seen."""
        return tuple(sorted({task for ran in self.runs.values() for task in ran.seen}))

    @property
    def measures(self) -> dict[str, Measure]:
        return {task: about.measure for task, about in self.case.tasks.items()}

    def seen_beside(self, run: str) -> tuple[str, ...]:
        """Of what `run` may lose, what is not unseen by all: targets of other runs are learned."""
        ran = self.runs[run]
        known = {*self.seen, *ran.earlier, *ran.later}
        return tuple(sorted(task for task in known if ran.case.tasks[task].role == "retain"))

    def shift_of(self, run: str) -> Mapping[str, Any]:
        """Without the targets that it does not learn, which are held against their own texts."""
        others = {*self.case.targets} - {*self.runs[run].case.targets}
        told = self.shift["comparisons"]
        kept = {name: one for name, one in told.items() if name not in others}
        return {**self.shift, "comparisons": kept}

    @property
    def used(self) -> tuple[str, ...]:
        """What no two runs are ranked by: what any has seen, and the targets."""
        return tuple(sorted({*self.case.targets, *self.seen}))
