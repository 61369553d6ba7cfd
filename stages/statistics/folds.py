"""k-fold cross-validation of a run: how much its target depends on the rows it learned from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.errors import UserError
from stages.statistics.measures import values
from stages.statistics.results import About
from stages.statistics.variants import FOLD, FOLD_BASE


@dataclass(frozen=True)
class Spread:
    """The mean over models, and their standard deviation (n - 1).

    It says how far one model lies from another. It is no error of the mean: folds share their
    training rows (Bengio and Grandvalet 2004, JMLR 5, 1089-1105).
    """

    mean: float
    spread: float


@dataclass(frozen=True)
class Validated:
    """A target on held-out folds. `models`: seeds times folds; `gain`: positive is better."""

    models: int
    before: Spread
    after: Spread
    gain: Spread


def validated(
    run: str, records: pd.DataFrame, tasks: Mapping[str, About], folds: int | None, seeds: int
) -> dict[str, Validated]:
    """By target. Raises UserError where the records are of other folds than `folds` and `seeds`."""
    held = records[records["variant"].isin([FOLD, FOLD_BASE])]
    found = {}
    for task, about in tasks.items():
        if about.role != "target":
            continue
        figures = {FOLD: dict[object, float](), FOLD_BASE: dict[object, float]()}
        of_task = held[held["task"] == task]
        for (variant, seed, split), rows in of_task.groupby(["variant", "seed", "split"]):
            figures[str(variant)][seed, split] = float(values(rows, about.measure).mean())
        before, after = figures[FOLD_BASE], figures[FOLD]
        if len(after) != seeds * (folds or 0) or set(after) != set(before):
            raise UserError(
                f"records of {run} hold {len(after)} models of folds for {task}, params.yaml says "
                f"{folds or 0} folds of {seeds} seeds; run `dvc repro`"
            )
        if folds:
            pairs = np.array([(before[one], after[one]) for one in sorted(after, key=str)])
            better = pairs[:, 1] - pairs[:, 0]
            found[task] = Validated(
                models=len(pairs),
                before=_spread(pairs[:, 0]),
                after=_spread(pairs[:, 1]),
                gain=_spread(-better if about.measure.of_text else better),
            )
    return found


def _spread(figures: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Spread:
    return Spread(float(figures.mean()), float(figures.std(ddof=1)))
