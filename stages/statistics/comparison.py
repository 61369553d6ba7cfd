"""A run against its base, task by task, from their records."""

import copy
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from stages.config.kinds import WITH_HEAD
from stages.records import pair
from stages.statistics.arrays import Floats
from stages.statistics.classification import report
from stages.statistics.draws import enough_draws
from stages.statistics.gate import Judged, judge
from stages.statistics.grid import Grid, grid_of
from stages.statistics.intervals import Bootstrap, Interval
from stages.statistics.measures import values
from stages.statistics.noise import NoiseFloor, noise_floor
from stages.statistics.paired import Undefined, holm, mcnemar, retained, sign_flip, transitions
from stages.statistics.results import (
    About,
    BaseResult,
    Change,
    RunResult,
    Settings,
    SliceChange,
    TaskScores,
)
from stages.statistics.rows import rows_of
from stages.statistics.score_interval import interval_for
from stages.statistics.seeds import seed_mean, seed_spread
from stages.statistics.variants import brief
from stages.statistics.writing import writing_figures

RESCORED, GENERATED, COHERENCE = "rescored", "generated", "coherence"
NOT_NOISE = {"clean", RESCORED, GENERATED, COHERENCE}
"""Conditions of records; any other is noise on the input."""


class Case:
    """The base of a case, ready to be compared with: what all of its runs share."""

    def __init__(self, base: pd.DataFrame, tasks: Mapping[str, About], settings: Settings) -> None:
        """`base`: its records, asked again for the noise floor. Raises UserError, see pair."""
        self.tasks = tasks
        self._settings = settings
        self._asked = base[base["condition"] != RESCORED]
        self._before = self._grids(base)
        self._bootstraps = {
            task: Bootstrap(grid.groups, settings.resamples, settings.seed)
            for task, grid in self._before.items()
        }
        again = self._grids(base, RESCORED)
        self.base = BaseResult(
            scores={task: self._scores(task, grid, base) for task, grid in self._before.items()},
            noise={
                task: self._noise(task, grid, again[task]) for task, grid in self._before.items()
            },
        )

    @property
    def targets(self) -> list[str]:
        return [task for task, about in self.tasks.items() if about.role == "target"]

    def learning(self, targets: Collection[str]) -> "Case":
        """The same for a run that learns these targets alone: the others are what it may lose."""
        case = copy.copy(self)
        case.tasks = {
            task: about if task in targets else replace(about, role="retain")
            for task, about in self.tasks.items()
        }
        return case

    def compare(self, run: pd.DataFrame) -> RunResult:
        """`run`: records of its seeds. Raises UserError, see pair."""
        return self._compare(self._asked, run)

    def compare_variant(self, records: pd.DataFrame) -> RunResult:
        """The same of a variant, which is asked less: see `brief`."""
        return self._compare(brief(self._asked), records)

    def _compare(self, asked: pd.DataFrame, run: pd.DataFrame) -> RunResult:
        pair(asked, run)
        after = self._grids(run)
        worse = {task: self._worse(task, grid) for task, grid in after.items()}
        settings = self._settings
        draws = enough_draws(settings.resamples, len(self.tasks), settings.confidence)
        p = {
            task: sign_flip(difference, after[task].groups, draws, settings.seed)
            for task, difference in worse.items()
        }
        retain = {task: p[task] for task, about in self.tasks.items() if about.role == "retain"}
        adjusted = p | holm(retain)
        scores = {task: self._scores(task, grid, run) for task, grid in after.items()}
        return RunResult(
            scores=scores,
            changes={
                task: self._change(task, grid, worse[task], p[task], adjusted[task])
                for task, grid in after.items()
            },
            noise_drop=self._noise_drop(scores),
            gate=dict(self._gate(worse, after)),
        )

    def _gate(
        self, worse: Mapping[str, Floats], after: Mapping[str, Grid]
    ) -> Iterator[tuple[str, Judged]]:
        limits = self._settings.limits
        for task, about in self.tasks.items():
            of_text, groups = about.measure.of_text, after[task].groups
            told = limits.confidence, of_text, about.measure.of_all is not None
            if about.role == "retain":
                limit = limits.of_retain(task, of_text)
                yield task, judge(-worse[task], groups, limit, *told)
            elif limits.minimum_gain is not None:
                yield task, judge(worse[task], groups, limits.minimum_gain, *told)

    def _noise_drop(self, after: Mapping[str, TaskScores]) -> float | None:
        drops = [
            before.value - after[task].noisy[condition].value
            for task, scores in self.base.scores.items()
            for condition, before in scores.noisy.items()
            if condition in after[task].noisy
        ]
        return float(np.mean(drops)) if drops else None

    def _grids(self, records: pd.DataFrame, condition: str = "clean") -> dict[str, Grid]:
        return {
            task: grid_of(records, task, about.measure, condition)
            for task, about in self.tasks.items()
        }

    def _noise(self, task: str, before: Grid, again: Grid) -> NoiseFloor:
        refitted = self.tasks[task].kind in WITH_HEAD
        clean, confidence = before.figures[0], self._settings.confidence
        found = noise_floor(clean, again.figures, confidence, refitted=refitted)
        if self.tasks[task].measure.of_all is None:
            return found
        # Of a figure of all examples every value moves where one answer does.
        first, *rescored = (rows["score"].to_numpy() for rows in (*before.rows, *again.rows))
        return replace(found, flip_rate=float(np.mean(np.stack(rescored) != first)))

    def _worse(self, task: str, after: Grid) -> Floats:
        """By how much each example got worse, seeds averaged; of a target, how much better."""
        return self._turned(task, self._before[task].figures[0] - seed_mean(after.figures))

    def _turned(self, task: str, difference: Floats) -> Floats:
        turned = self.tasks[task].measure.of_text != (self.tasks[task].role == "target")
        return -difference if turned else difference

    def _options(self, task: str, grid: Grid) -> Floats | None:
        """How many each example has to guess among; None where chance is no such guess, as the
        best constant answer of a head."""
        chance = grid.rows[0]["chance"].to_numpy(dtype=float)
        if self.tasks[task].kind in WITH_HEAD or not ((chance > 0) & (chance < 1)).all():
            return None
        return 1 / chance

    def _change(self, task: str, after: Grid, worse: Floats, p: float, adjusted_p: float) -> Change:
        before, chance = self._before[task], after.chance
        # Bits, and metrics that give part of a point, are neither right nor wrong.
        counted = all(np.isin(grid.figures, (0, 1)).all() for grid in (before, after))
        per_seed = list(after.figures) if counted else []
        options = self._options(task, after)
        left: float | Undefined = Undefined("bits per byte have no chance level")
        if chance is not None:
            interval = self._mean(task, before)
            left = retained(interval, float(after.figures.mean()), chance)
        return Change(
            interval=self._of_change(task, self._bootstraps[task], worse, after.groups),
            n=after.n,
            p=p,
            adjusted_p=adjusted_p,
            mcnemar=[mcnemar(before.figures[0], scores) for scores in per_seed],
            transitions=[transitions(before.figures[0], scores, options) for scores in per_seed],
            seed_spread=seed_spread(after.figures.mean(axis=1)),
            floor=self.base.noise[task].floor,
            retained=left,
            slices=self._slices(task, before, after),
        )

    def _of_change(
        self, task: str, bootstrap: Bootstrap, worse: Floats, groups: Iterable[Hashable]
    ) -> Interval:
        """Where no example changed, or all did alike, the bootstrap has no width."""
        measure, confidence = self.tasks[task].measure, self._settings.confidence
        found = bootstrap.mean(worse, confidence)
        if found.low < found.high:
            return found
        return interval_for(measure.of_text, measure.of_all is not None)(worse, groups, confidence)

    def _slices(self, task: str, before: Grid, after: Grid) -> dict[str, SliceChange]:
        """Nothing where the task is one slice."""
        rows, measure = before.rows[0], self.tasks[task].measure
        found = {}
        for name, chosen in rows.groupby("slice", sort=True).indices.items():
            # A value may be relative to all examples of the task; here, to the slice's.
            first, last = (
                np.stack([values(of_seed.iloc[chosen], measure) for of_seed in grid.rows])
                for grid in (before, after)
            )
            groups = rows["group"].iloc[chosen]
            interval = None
            if len(set(groups)) > 1:
                worse = self._turned(task, first[0] - seed_mean(last))
                bootstrap = Bootstrap(groups, self._settings.resamples, self._settings.seed)
                interval = self._of_change(task, bootstrap, worse, groups)
            found[str(name)] = SliceChange(
                n=len(chosen),
                before=float(first[0].mean()),
                after=float(last.mean()),
                interval=interval,
            )
        return found if len(found) > 1 else {}

    def _mean(self, task: str, grid: Grid) -> Interval:
        bootstrap, measure = self._bootstraps[task], self.tasks[task].measure
        share = not measure.of_text and measure.of_all is None
        interval = bootstrap.proportion if share else bootstrap.mean
        found = interval(seed_mean(grid.figures), self._settings.confidence)
        if measure.of_all is None:
            return found
        return Interval(found.value, max(found.low, measure.least), min(found.high, 1.0))

    def _scores(self, task: str, grid: Grid, records: pd.DataFrame) -> TaskScores:
        about = self.tasks[task]
        metrics = {about.measure.name: self._mean(task, grid)}
        for name, figure in about.measure.also:
            beside = seed_mean(np.stack([figure(of_seed) for of_seed in grid.rows]))
            bootstrap = self._bootstraps[task]
            metrics[name] = bootstrap.proportion(beside, self._settings.confidence)
        if about.labels:
            metrics |= self._of_classifier(task, grid)
        conditions = sorted(set(records.loc[records["task"] == task, "condition"]) - NOT_NOISE)
        noisy = {
            condition: self._mean(task, grid_of(records, task, about.measure, condition))
            for condition in conditions
        }
        return TaskScores(
            metrics, grid.n, len(set(grid.groups)), grid.chance, noisy, self._writing(task, records)
        )

    def _writing(self, task: str, records: pd.DataFrame) -> dict[str, dict[str, Interval]]:
        texts, coherent = (rows_of(records, task, name) for name in (GENERATED, COHERENCE))
        if texts.empty:
            return {}
        settings = self._settings
        parts = {"all": (texts, coherent)} | {
            str(name): (part, coherent[coherent["slice"] == name])
            for name, part in texts.groupby("slice", sort=True)
        }
        return {
            name: writing_figures(*both, settings.confidence, settings.resamples, settings.seed)
            for name, both in parts.items()
        }

    def _of_classifier(self, task: str, grid: Grid) -> dict[str, Interval]:
        """Macro figures, averaged over seeds: values and both ends of the intervals."""
        index = {label: float(at) for at, label in enumerate(self.tasks[task].labels)}
        reports = [
            report(
                rows["target"].map(index).to_numpy(),
                rows["prediction"].map(index).to_numpy(),
                np.asarray(rows["probabilities"].to_list(), dtype=float),
                self._bootstraps[task],
                self._settings.confidence,
            )
            for rows in grid.rows
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
