"""Five ways in which a tuned model can be wrong, each by its formula. Positive is bad."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats
from stages.statistics.intervals import Interval
from stages.statistics.measures import Measure, values
from stages.statistics.rows import rows_in_order
from stages.statistics.score_interval import mean_interval, paired_interval
from stages.statistics.unpaired import difference

FORMULAS = {
    "generalisation": "test - train",
    "specific-task": "test - base's test",
    "over-fitting": "validation - train",
    "weight-adjustment": "train loss at the kept step - its minimum over the training",
    "distribution": "test - base's error on its own kind of text",
}
SAYS = {
    "generalisation": (
        "unseen rows are answered worse than trained ones",
        "unseen rows are answered better than trained ones",
        "what it learned holds for unseen rows as well",
    ),
    "specific-task": (
        "it does its own target worse than the base",
        "it does its target better than the base",
        "no sure difference from the base on its target",
    ),
    "over-fitting": (
        "it knows its training rows better than what it was not trained on",
        "validation rows are the easier ones",
        "no sign that rows were learned by heart",
    ),
    "weight-adjustment": (
        "the weights that were kept are not those that fit the training rows best",
        "",
        "the weights that were kept are those that fit the training rows best",
    ),
    "distribution": (
        "the target's texts are harder for it than the base's own kind was for the base",
        "the target's texts are easier for it than the base's own kind was for the base",
        "the target's texts are as hard for it as the base's own kind was for the base",
    ),
}
"""What an error says where it is surely positive, surely negative, and neither."""


@dataclass(frozen=True)
class Error:
    """`low` and `high` are None where one figure is all there is; `value` too where it is
    undefined, and then `says` is the reason."""

    error: str
    task: str
    seed: int
    unit: str
    formula: str
    value: float | None
    low: float | None
    high: float | None
    says: str

    def told(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """One figure an example, [n], and their groups."""

    figures: Floats
    groups: list[str]


class FiveErrors:
    """Of one target by one seed's model. `curve`: its looks, with `step` and `train_loss`."""

    def __init__(
        self,
        base: pd.DataFrame,
        run: pd.DataFrame,
        task: str,
        measure: Measure,
        seed: int,
        confidence: float,
    ) -> None:
        self._base, self._run = base, run
        self._task, self._measure, self._seed = task, measure, seed
        self._confidence = confidence

    def all(
        self, curve: pd.DataFrame, kept: int, own_text: Mapping[str, list[float]] | None
    ) -> Iterator[Error]:
        units = ("bits/byte",) if self._measure.of_text else ("error rate", "loss")
        for unit in units:
            test = self._sample(self._run, "test", unit)
            train = self._sample(self._run, "train", unit)
            validation = self._sample(self._run, "validation", unit)
            yield self._between("generalisation", unit, test, train)
            yield self._paired(unit, test, self._sample(self._base, "test", unit))
            yield self._between("over-fitting", unit, validation, train)
            yield self._own_kind(unit, test, own_text)
        yield self._adjustment(curve, kept)

    def _sample(self, records: pd.DataFrame, split: str, unit: str) -> Sample | str:
        """Or why there is none."""
        rows = rows_in_order(records, self._task, split)
        if rows.empty:
            return f"no {split} rows were scored"
        if unit == "bits/byte":
            figures = values(rows, self._measure)
        elif unit == "loss":
            figures = rows["nll"].to_numpy(dtype=np.float64)
            if np.isnan(figures).any():
                return "its answers have no likelihood"
        else:
            figures = 1 - rows["score"].to_numpy(dtype=np.float64)
        return Sample(figures, list(rows["group"]))

    def _between(self, error: str, unit: str, first: Sample | str, second: Sample | str) -> Error:
        if isinstance(first, str) or isinstance(second, str):
            return self._undefined(error, unit, first if isinstance(first, str) else str(second))
        of_hits = self._measure.name == "hit_at_1"
        if of_hits and len(first.figures) != len(second.figures):
            reason = "a larger split has more documents to be mistaken for the right one"
            return self._undefined(error, unit, reason)
        if min(len(set(first.groups)), len(set(second.groups))) < 2:
            return self._undefined(error, unit, "one group of examples shows no spread")
        return self._told(
            error,
            unit,
            difference(
                first.figures, first.groups, second.figures, second.groups, self._confidence
            ),
        )

    def _paired(self, unit: str, test: Sample | str, before: Sample | str) -> Error:
        if isinstance(test, str) or isinstance(before, str):
            return self._undefined(
                "specific-task", unit, test if isinstance(test, str) else str(before)
            )
        interval = paired_interval if unit == "error rate" else mean_interval
        moved = interval(test.figures - before.figures, test.groups, self._confidence)
        return self._told("specific-task", unit, moved)

    def _own_kind(
        self, unit: str, test: Sample | str, own_text: Mapping[str, list[float]] | None
    ) -> Error:
        if unit != "bits/byte":
            reason = "the base has no error of this kind on its own kind of text"
            return self._undefined("distribution", unit, reason)
        if isinstance(test, str):
            return self._undefined("distribution", unit, test)
        if own_text is None or len(own_text["bits"]) < 2:
            return self._undefined("distribution", unit, "the base wrote no texts of its own")
        bits, size = np.array(own_text["bits"]), np.array(own_text["bytes"])
        own = bits / size.mean()
        return self._between(
            "distribution", unit, test, Sample(own, list(map(str, range(len(own)))))
        )

    def _adjustment(self, curve: pd.DataFrame, kept: int) -> Error:
        looks = curve[curve["train_loss"].notna()].set_index("step")["train_loss"]
        value = float(looks[kept] - looks.min())
        says = SAYS["weight-adjustment"][0 if value > 0 else 2]
        formula = FORMULAS["weight-adjustment"]
        return Error(
            "weight-adjustment", self._task, self._seed, "loss", formula, value, None, None, says
        )

    def _told(self, error: str, unit: str, found: Interval) -> Error:
        place = 0 if found.low > 0 else 1 if found.high < 0 else 2
        ends = (found.value, found.low, found.high)
        return Error(
            error, self._task, self._seed, unit, FORMULAS[error], *ends, SAYS[error][place]
        )

    def _undefined(self, error: str, unit: str, reason: str) -> Error:
        return Error(
            error,
            self._task,
            self._seed,
            unit,
            FORMULAS[error],
            None,
            None,
            None,
            f"undefined: {reason}",
        )
