"""What compare has read and found, before it is put into words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.statistics.comparison import Case
from stages.statistics.folds import Validated
from stages.statistics.results import RunResult


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
    """What a run left behind, and what became of it."""

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
        """The retain tasks whose train split the run's methods used."""
        seen: list[str] = self.training.about["seen"]
        return seen


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
    `base` leaves out."""

    name: str
    case: Case
    base: Told
    prompted: pd.DataFrame
    card: Mapping[str, Any]
    shift: Mapping[str, Any]
    runs: Mapping[str, Ran]
    ensembles: Mapping[str, Ensemble]

    @property
    def seen(self) -> tuple[str, ...]:
        """The retain tasks that any of the runs has seen."""
        return tuple(sorted({task for ran in self.runs.values() for task in ran.seen}))
