"""A run against its base, task by task, from their records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.records import pair
from stages.statistics.arrays import Floats
from stages.statistics.classification import report
from stages.statistics.intervals import Bootstrap, Interval, wilson
from stages.statistics.noise import NoiseFloor, noise_floor
from stages.statistics.paired import (
    Transitions,
    Undefined,
    holm,
    mcnemar,
    retained,
    sign_flip,
    transitions,
)
from stages.statistics.seeds import seed_mean, seed_spread

Array = NDArray[np.floating[Any]]

HEADLINE = {"classification": "accuracy", "linear-probe": "accuracy", "retrieval": "hit_at_1"}
"""What the score's mean is called, by kind of task."""


@dataclass(frozen=True)
class Settings:
    confidence: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class About:
    """What a records file says of a task."""

    kind: str
    role: str
    labels: tuple[str, ...]
    truncated: int

    @property
    def headline(self) -> str:
        return HEADLINE[self.kind]


@dataclass(frozen=True)
class TaskScores:
    """One model on one task: its test figures, seeds averaged example by example."""

    metrics: dict[str, Interval]
    n: int
    groups: int
    chance: float


@dataclass(frozen=True)
class Change:
    """A run against its base on one task: a gain where it is the target, else a drop.

    Positive is what its name says. `p` is of the sign-flip test on the seeds' average,
    `adjusted_p` Holm's over the run's retain tasks. `real`: adjusted_p is below 1 - confidence
    and the change is larger than the noise floor.
    """

    interval: Interval
    n: int
    p: float
    adjusted_p: float
    mcnemar: list[float]
    transitions: list[Transitions]
    seed_spread: float | None
    floor: float
    retained: float | Undefined

    def is_real(self, confidence: float) -> bool:
        return self.adjusted_p < 1 - confidence and abs(self.interval.value) > self.floor


@dataclass(frozen=True)
class RunResult:
    scores: dict[str, TaskScores]
    changes: dict[str, Change]


@dataclass(frozen=True)
class BaseResult:
    scores: dict[str, TaskScores]
    noise: dict[str, NoiseFloor]


class Case:
    """The base of a case, ready to be compared with: what all of its runs share."""

    def __init__(self, base: pd.DataFrame, tasks: Mapping[str, About], settings: Settings) -> None:
        """`base`: records of conditions clean and rescored. Raises UserError, see pair."""
        self.tasks = tasks
        self._settings = settings
        self._clean = base[base["condition"] == "clean"]
        self._test = {task: _grid(self._clean, task) for task in tasks}
        self._bootstraps = {
            task: Bootstrap(grid.groups, settings.resamples, settings.seed)
            for task, grid in self._test.items()
        }
        again = base[base["condition"] == "rescored"]
        self.base = BaseResult(
            scores={task: self._scores(task, grid) for task, grid in self._test.items()},
            noise={
                task: noise_floor(
                    grid.scores[0],
                    _grid(again, task).scores,
                    settings.confidence,
                )
                for task, grid in self._test.items()
            },
        )

    def compare(self, run: pd.DataFrame) -> RunResult:
        """`run`: records of its seeds, condition clean. Raises UserError, see pair."""
        pair(self._clean, run)
        grids = {task: _grid(run, task) for task in self.tasks}
        p = {task: self._p(task, grid) for task, grid in grids.items()}
        retain = {task: p[task] for task, about in self.tasks.items() if about.role == "retain"}
        adjusted = p | holm(retain)
        return RunResult(
            scores={task: self._scores(task, grid) for task, grid in grids.items()},
            changes={
                task: self._change(task, grid, p[task], adjusted[task])
                for task, grid in grids.items()
            },
        )

    def _difference(self, task: str, grid: "_Grid") -> Floats:
        """before - after of each test example, seeds averaged; turned round for a target."""
        drop: Floats = self._test[task].scores[0] - seed_mean(grid.scores)
        return -drop if self.tasks[task].role == "target" else drop

    def _p(self, task: str, grid: "_Grid") -> float:
        settings = self._settings
        return sign_flip(
            self._difference(task, grid), grid.groups, settings.resamples, settings.seed
        )

    def _change(self, task: str, grid: "_Grid", p: float, adjusted_p: float) -> Change:
        before = self._test[task].scores[0]
        chance = grid.chance
        # A majority class is no guess among k options, so nothing is adjusted for it.
        options = None if self.tasks[task].labels else np.full(grid.n, 1 / chance)
        return Change(
            interval=self._bootstraps[task].mean(
                self._difference(task, grid), self._settings.confidence
            ),
            n=grid.n,
            p=p,
            adjusted_p=adjusted_p,
            mcnemar=[mcnemar(before, after) for after in grid.scores],
            transitions=[transitions(before, after, options) for after in grid.scores],
            seed_spread=seed_spread(grid.scores.mean(axis=1)),
            floor=self.base.noise[task].floor,
            retained=retained(
                self._accuracy(task, self._test[task]), float(grid.scores.mean()), chance
            ),
        )

    def _accuracy(self, task: str, grid: "_Grid") -> Interval:
        """The mean score, with the wider of the bootstrap's and Wilson's intervals."""
        confidence = self._settings.confidence
        mean = seed_mean(grid.scores)
        drawn = self._bootstraps[task].mean(mean, confidence)
        scored = wilson(round(float(mean.sum())), grid.n, confidence)
        return Interval(drawn.value, min(drawn.low, scored.low), max(drawn.high, scored.high))

    def _scores(self, task: str, grid: "_Grid") -> TaskScores:
        about = self.tasks[task]
        metrics = {about.headline: self._accuracy(task, grid)}
        if about.labels:
            metrics |= self._of_classifier(task, grid)
        return TaskScores(metrics, grid.n, len(set(grid.groups)), grid.chance)

    def _of_classifier(self, task: str, grid: "_Grid") -> dict[str, Interval]:
        """Macro figures, averaged over seeds: values and both ends of the intervals."""
        reports = [
            report(
                targets,
                predictions,
                probabilities,
                self._bootstraps[task],
                self._settings.confidence,
            )
            for targets, predictions, probabilities in grid.classified(self.tasks[task].labels)
        ]
        return {
            name: Interval(
                *(
                    float(np.mean([getattr(of_seed[name], end) for of_seed in reports]))
                    for end in ("value", "low", "high")
                )
            )
            for name in reports[0]
            if name != "accuracy"
        }


@dataclass(frozen=True)
class _Grid:
    """The test records of one task, examples in order of their ids: one row a seed."""

    scores: Floats
    groups: list[str]
    chance: float
    rows: list[pd.DataFrame]

    @property
    def n(self) -> int:
        return len(self.groups)

    def classified(self, labels: tuple[str, ...]) -> list[tuple[Array, Array, Array]]:
        """Of each seed: targets [n] and predictions [n] as indices, probabilities [n, labels]."""
        index = {label: float(position) for position, label in enumerate(labels)}
        return [
            (
                rows["target"].map(index).to_numpy(dtype=float),
                rows["prediction"].map(index).to_numpy(dtype=float),
                np.asarray(rows["probabilities"].to_list(), dtype=float),
            )
            for rows in self.rows
        ]


def _grid(records: pd.DataFrame, task: str) -> _Grid:
    chosen = records[(records["task"] == task) & (records["split"] == "test")]
    rows = [
        of_seed.sort_values("example_id", ignore_index=True)
        for _, of_seed in chosen.groupby("seed", sort=True)
    ]
    return _Grid(
        scores=np.stack([of_seed["score"].to_numpy() for of_seed in rows]),
        groups=rows[0]["group"].to_list(),
        chance=float(rows[0]["chance"].mean()),
        rows=rows,
    )
