"""One run on two branches, paired on the examples that both were asked."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats
from stages.statistics.draws import enough_draws
from stages.statistics.intervals import Bootstrap, Interval
from stages.statistics.measures import HIT_AT_1, Measure, values
from stages.statistics.paired import holm, sign_flip
from stages.statistics.results import Settings, is_real
from stages.statistics.rows import rows_of
from stages.statistics.seeds import seed_mean


@dataclass(frozen=True)
class Shift:
    """A task on the one branch and on the other: means over `n` examples, seeds averaged.

    `change`: positive is better. `lost` and `won`: what got worse and what got better, as parts of
    the mean, so that won - lost = change. `alone`: examples that only one branch has.
    """

    n: int
    alone: int
    before: float
    after: float
    change: Interval
    lost: float
    won: float
    adjusted_p: float
    floor: float

    def is_real(self, confidence: float) -> bool:
        return is_real(self.change.value, self.adjusted_p, self.floor, confidence)


def shifts(
    before: pd.DataFrame,
    after: pd.DataFrame,
    measures: Mapping[str, Measure],
    floors: Mapping[str, float],
    settings: Settings,
) -> dict[str, Shift]:
    """By task, those that both branches asked alike, of two groups at least: retrieval among the
    same documents. `before`, `after`: records of the run itself; `floors`: the noise floor of each
    task. p is of sign flips of whole groups, with Holm's adjustment over the tasks."""
    paired = {
        task: found
        for task, measure in measures.items()
        if (found := _paired(rows_of(before, task), rows_of(after, task), measure))
    }
    draws = enough_draws(settings.resamples, len(paired), settings.confidence)
    p = {
        task: sign_flip(one.better, one.groups, draws, settings.seed)
        for task, one in paired.items()
    }
    adjusted = holm(p)
    return {
        task: Shift(
            n=len(one.groups),
            alone=one.alone,
            before=float(one.before.mean()),
            after=float(one.after.mean()),
            change=Bootstrap(one.groups, settings.resamples, settings.seed).mean(
                one.better, settings.confidence
            ),
            lost=float(np.maximum(0, -one.better).mean()),
            won=float(np.maximum(0, one.better).mean()),
            adjusted_p=adjusted[task],
            floor=floors[task],
        )
        for task, one in paired.items()
    }


@dataclass(frozen=True)
class _Paired:
    """The common examples of a task: one value each, seeds averaged."""

    alone: int
    groups: list[Hashable]
    before: Floats
    after: Floats
    better: Floats


def _paired(before: pd.DataFrame, after: pd.DataFrame, measure: Measure) -> _Paired | None:
    common = sorted(set(before["example_id"]) & set(after["example_id"]))
    alone = before["example_id"].nunique() + after["example_id"].nunique() - 2 * len(common)
    if alone and measure.name == HIT_AT_1:
        return None
    rows = [_of(records, common) for records in (before, after)]
    groups = list(rows[0]["group"].iloc[: len(common)])
    if len(set(groups)) < 2:
        return None
    first, last = (seed_mean(values(side, measure).reshape(-1, len(common))) for side in rows)
    return _Paired(
        alone,
        groups,
        first,
        last,
        first - last if measure.of_text else last - first,
    )


def _of(records: pd.DataFrame, examples: list[str]) -> pd.DataFrame:
    """Seed by seed, examples in order."""
    chosen = records[records["example_id"].isin(examples)]
    return chosen.sort_values(["seed", "example_id"], ignore_index=True)
