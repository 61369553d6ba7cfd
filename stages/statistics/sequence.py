"""Targets learned one after another: what each step of the sequence did to all tasks.

R[i, j] is the figure of task j after step i, higher is better (Lopez-Paz and Ranzato 2017, arXiv
1706.08840, section 3.1). Row 0 is the untouched base. `learned` [tasks] says after which step each
task is learned, from 1; in the paper there is one task a step, so that it is 1, 2, … T. Every
measure takes R [..., steps + 1, tasks] of the learned tasks alone and gives [...]. It is a mean
over some of them, and undefined where they are measured in different units, as texts and questions
are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.statistics.arrays import Floats
from stages.statistics.intervals import Bootstrap, Interval, percentile
from stages.statistics.measures import Measure, values
from stages.statistics.paired import Undefined
from stages.statistics.rows import rows_of
from stages.statistics.seeds import seed_spread

Steps = NDArray[np.int64]


def _all(learned: Steps, _: int) -> Steps:
    return np.arange(len(learned))


def _old(learned: Steps, last: int) -> Steps:
    """Tasks of earlier steps than the last."""
    return np.flatnonzero(learned < last)


def _new(learned: Steps, _: int) -> Steps:
    """Tasks of later steps than the first."""
    return np.flatnonzero(learned > 1)


def average_accuracy(r: Floats, _: Steps) -> Floats:
    """Equation 2: the mean of the last row."""
    return np.asarray(r[..., -1, :].mean(-1))


def backward_transfer(r: Floats, learned: Steps) -> Floats:
    """Equation 3: after the last step less after its own, mean over the tasks of earlier steps.
    Negative where the later steps made the model forget."""
    old = _old(learned, r.shape[-2] - 1)
    return np.asarray((r[..., -1, old] - r[..., learned[old], old]).mean(-1))


def forward_transfer(r: Floats, learned: Steps) -> Floats:
    """Equation 4: just before its own step less the baseline, mean over the tasks of later steps.
    The baseline is the untouched base (row 0), where the paper takes a model without training."""
    new = _new(learned, r.shape[-2] - 1)
    return np.asarray((r[..., learned[new] - 1, new] - r[..., 0, new]).mean(-1))


def forgetting(r: Floats, learned: Steps) -> Floats:
    """Chaudhry et al. 2018, arXiv 1801.10112, equation 3: the best after any step but the last,
    less after the last, mean over the tasks of earlier steps. The base is no step."""
    old = _old(learned, r.shape[-2] - 1)
    return np.asarray((r[..., 1:-1, old].max(-2) - r[..., -1, old]).mean(-1))


MEASURES = {
    "average_accuracy": average_accuracy,
    "backward_transfer": backward_transfer,
    "forward_transfer": forward_transfer,
    "forgetting": forgetting,
}
MEANS_OVER = {
    "average_accuracy": _all,
    "backward_transfer": _old,
    "forward_transfer": _new,
    "forgetting": _old,
}
"""By measure: the places of its tasks, from `learned` and the number of steps."""


@dataclass(frozen=True)
class SequenceResult:
    """`steps`: names of the runs in order. `learned`: the step, from 1, of each target, in order.
    `figures`: of each task, the learned ones first, the base's and that after each step, in the
    task's unit. `measures`: see MEASURES; of text in bits per byte, turned so that higher is
    better, the average aside. `counted`: the tasks that each is a mean over. `spread`: of each
    between seeds; empty for one seed."""

    steps: tuple[str, ...]
    learned: Mapping[str, int]
    figures: Mapping[str, tuple[float, ...]]
    measures: Mapping[str, Interval | Undefined]
    counted: Mapping[str, tuple[str, ...]]
    spread: Mapping[str, float]


def follow(
    base: pd.DataFrame,
    runs: Mapping[str, pd.DataFrame],
    learned: Mapping[str, int],
    tasks: Mapping[str, Measure],
    *,
    confidence: float,
    draws: int,
    seed: int,
) -> SequenceResult:
    """`base`, `runs`: records, which pair, of the steps in order, two or more; the seeds that all
    of them have count. `tasks`: all of the case. Intervals are over examples, seeds averaged."""
    seeds = sorted(set.intersection(*(set(records["seed"]) for records in runs.values())))
    order = [*learned, *(task for task in tasks if task not in learned)]
    models = [base, *(records[records["seed"].isin(seeds)] for records in runs.values())]
    tables = {task: [_of_seeds(one, task, tasks[task]) for one in models] for task in order}
    figures = {
        task: tuple(float(model.mean()) for model in of_task) for task, of_task in tables.items()
    }
    signs = np.array([-1.0 if tasks[task].of_text else 1.0 for task in learned])
    places = np.array(list(learned.values()))
    r = signs * np.array([figures[task] for task in learned]).T
    drawn = signs * np.stack(
        [
            # A stream a task: the same draws would tie together what has nothing in common.
            Bootstrap(_groups(base, task), draws, seed + at).resampled(
                np.stack([model.mean(axis=0) for model in tables[task]])
            )
            for at, task in enumerate(learned)
        ],
        axis=-1,
    )
    of_seeds = [
        np.stack([np.broadcast_to(model.mean(axis=1), len(seeds)) for model in tables[task]])
        for task in learned
    ]
    each = signs * np.stack(of_seeds, axis=-1).swapaxes(0, 1)
    measures: dict[str, Interval | Undefined] = {}
    counted, spread = {}, {}
    for name, measure in MEASURES.items():
        of_measure = MEANS_OVER[name](places, len(runs))
        counted[name] = tuple(list(learned)[at] for at in of_measure)
        if len(set(signs[of_measure])) > 1:
            measures[name] = Undefined("the targets are measured in different units")
            continue
        turned = signs[of_measure[0]] if name == "average_accuracy" else 1.0
        value, resampled = float(measure(r, places)), measure(drawn, places)
        measures[name] = percentile(turned * value, turned * resampled, confidence)
        if (between := seed_spread(measure(each, places))) is not None:
            spread[name] = between
    return SequenceResult(tuple(runs), dict(learned), figures, measures, counted, spread)


def _of_seeds(records: pd.DataFrame, task: str, measure: Measure) -> Floats:
    """[seeds, n], examples in order of their ids."""
    rows = rows_of(records, task).sort_values(["seed", "example_id"], ignore_index=True)
    return values(rows, measure).reshape(rows["seed"].nunique(), -1)


def _groups(base: pd.DataFrame, task: str) -> list[str]:
    return list(rows_of(base, task).sort_values("example_id")["group"])


def in_order(learned: Sequence[Sequence[str]]) -> dict[str, int]:
    """The targets that each step learns -> the step of each, from 1, in the order of steps."""
    return {task: step for step, tasks in enumerate(learned, start=1) for task in tasks}
