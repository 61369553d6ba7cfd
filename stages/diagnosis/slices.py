"""Which parts of a task lost most, of all the ways to cut it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats
from stages.statistics.draws import enough_draws
from stages.statistics.intervals import Interval
from stages.statistics.measures import Measure, values
from stages.statistics.paired import holm, sign_flip
from stages.statistics.rows import rows_in_order

FEWEST = 10
"""Examples of a slice that is looked at."""
MOST_NAMES = 50
"""Names of a cut: one that has more cuts too finely to show anything."""
SHOWN = 12
LENGTHS = ("short", "middling", "long")


@dataclass(frozen=True)
class Slice:
    """`drop` and its ends: positive = worse. `p`: Holm's, over all slices of all tasks of a run."""

    task: str
    cut: str
    name: str
    n: int
    drop: float
    low: float
    high: float
    p: float

    def told(self) -> dict[str, Any]:
        return asdict(self)


def cuts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The ways to cut a task's examples: by slice, label, length in bytes, frequency of answers."""
    yield "slice", rows["slice"]
    labels = rows["target"]
    counts = labels.value_counts()
    if 1 < len(counts) <= MOST_NAMES and not labels.equals(rows["slice"]):
        yield "answer", labels
    if rows["bytes"].nunique() >= len(LENGTHS):
        ranks = rows["bytes"].rank(method="first")
        yield "length", pd.qcut(ranks, len(LENGTHS), labels=list(LENGTHS)).astype(str)
    if 1 < len(counts) < len(rows) and counts.max() > counts.min():
        often = labels.map(counts)
        common = (often > often.median()).map({True: "common", False: "rare"})
        yield "answer frequency", common


def lost_slices(
    base: pd.DataFrame,
    run: pd.DataFrame,
    measures: Mapping[str, Measure],
    confidence: float,
    draws: int,
    seed: int,
) -> list[Slice]:
    """The slices that lost surely, by size of the drop; SHOWN at most. Seeds are averaged."""
    found: dict[str, tuple[tuple[str, str, str], int, Interval]] = {}
    parts: dict[str, tuple[Floats, list[str]]] = {}
    for task, measure in measures.items():
        rows = rows_in_order(base, task)
        worse = _worse(rows, run, task, measure)
        for cut, names in cuts(rows):
            places = names.groupby(names.to_numpy()).indices
            if not 1 < len(places) <= MOST_NAMES:
                continue
            for name, chosen in places.items():
                groups = list(rows["group"].iloc[chosen])
                if len(chosen) < FEWEST or len(set(groups)) < 2:
                    continue
                key = (task, cut, str(name))
                text = "\x1f".join(key)
                part = worse[chosen]
                # Values that are relative to all examples of the task; here, to the part's.
                if measure.of_all or measure.of_text:
                    part = _worse(rows.iloc[chosen], run, task, measure)
                parts[text] = part, groups
                found[text] = key, len(chosen), measure.interval(part, groups, confidence)
    draws = enough_draws(draws, len(parts), confidence)
    adjusted = holm({text: sign_flip(*part, draws, seed) for text, part in parts.items()})
    slices = [
        Slice(*key, n, *_ends(interval), adjusted[text])
        for text, (key, n, interval) in found.items()
        if interval.value > 0 and adjusted[text] < 1 - confidence
    ]
    return sorted(slices, key=lambda one: (-one.drop, one.task, one.cut, one.name))[:SHOWN]


def _worse(rows: pd.DataFrame, run: pd.DataFrame, task: str, measure: Measure) -> Floats:
    """Of the examples in `rows`, those of the base, in their order."""
    asked = run[run["example_id"].isin(rows["example_id"])]
    seeds = sorted(set(run["seed"]))
    after = np.mean(
        [values(rows_in_order(asked[asked["seed"] == seed], task), measure) for seed in seeds],
        axis=0,
    )
    worse: Floats = values(rows, measure) - after
    return -worse if measure.of_text else worse


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
