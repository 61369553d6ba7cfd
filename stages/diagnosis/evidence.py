"""What the rules of a verdict look at: plain figures of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.config.runs import RunConfig
from stages.diagnosis.five_errors import Error
from stages.statistics.intervals import Interval
from stages.statistics.measures import Measure, values
from stages.statistics.relabelling import Relabelled, relabel
from stages.statistics.results import About, RunResult
from stages.statistics.rows import rows_in_order
from stages.statistics.score_interval import interval_for

BATCHES = 5


@dataclass(frozen=True)
class Curve:
    """A seed's training. `best`: the step that was kept. Losses in evaluation mode at the first
    look, the kept one and the last, and the highest of training rows. `worst`: the largest mean of
    BATCHES batch losses in a row, by that of the first ones: one batch alone may be twice as hard
    as another."""

    seed: int
    steps: int
    best: int
    train_first: float
    train_best: float
    train_last: float
    train_worst: float
    validation_first: float
    validation_best: float
    validation_before: float
    """At the look before the last."""
    validation_last: float
    worst: float


@dataclass(frozen=True)
class Lost:
    """A retain task that surely lost. `drop` in its own unit, positive = worse."""

    task: str
    drop: float
    of_text: bool
    kind: str


@dataclass(frozen=True)
class Nearer:
    """A mix of a run with its base that answers the target surely better than the run itself: by
    how much, a share of 1 or bits per byte."""

    name: str
    better: Interval
    of_text: bool


@dataclass(frozen=True)
class Evidence:
    run: str
    config: RunConfig
    causal: bool
    """Whether the model predicts tokens, one after another."""
    train_rows: int
    rows: Mapping[str, int]
    """Train rows that there are, by task."""
    target: str
    gained: bool
    """Surely better on the target."""
    lost: tuple[Lost, ...]
    kept: tuple[str, ...]
    """Retain tasks without a sure loss."""
    within_noise: tuple[Lost, ...]
    """Those of `kept` that fell by more than chance gives, and by no more than the noise floor."""
    seen: tuple[str, ...]
    """Retain tasks whose train rows the run used."""
    seen_in_case: tuple[str, ...]
    """Those that any run of the case used, this one included, and targets of its other runs."""
    errors: tuple[Error, ...]
    curves: tuple[Curve, ...]
    moved: Mapping[str, Any]
    """See `movement`."""
    shift: Mapping[str, Any]
    """The case's, see stages/drift/data.py."""
    renamed: Mapping[str, Relabelled]
    """Of a target with labels, by split."""
    by_label: tuple[tuple[str, int, float], ...]
    """Of a target with labels: label, answers to its test examples over seeds, accuracy after."""
    later: tuple[str, ...] = ()
    """Targets that are not learned yet, which are no old ones to replay."""
    kinds: tuple[str, ...] = ()
    """Of the targets that the run learns."""
    nearer: Nearer | None = None
    """See `nearer`."""

    @property
    def epochs(self) -> float:
        """By the steps that were taken, the mean over seeds."""
        steps = float(np.mean([one.steps for one in self.curves]))
        return steps * self.config.batch_size / self.train_rows

    @property
    def worst(self) -> float:
        """The largest of its curves' `worst`."""
        return max(one.worst for one in self.curves)

    def error(self, name: str, unit: str) -> Error | None:
        """The mean over seeds of an error that is defined in each; its ends likewise."""
        found = [
            one
            for one in self.errors
            if (one.error, one.unit, one.task) == (name, unit, self.target)
        ]
        if not found or any(one.value is None or one.low is None for one in found):
            return None
        value, low, high = (
            float(np.mean([getattr(one, end) for one in found])) for end in ("value", "low", "high")
        )
        first = found[0]
        return Error(
            name, first.task, first.seed, unit, first.formula, value, low, high, first.says
        )


def curves(
    training: pd.DataFrame, best: Mapping[str, int], targets: Sequence[str]
) -> tuple[Curve, ...]:
    return tuple(
        _curve(int(str(seed)), rows, best[str(seed)], targets)
        for seed, rows in training.groupby("seed")
    )


def _curve(seed: int, rows: pd.DataFrame, best: int, targets: Sequence[str]) -> Curve:
    looks = rows[rows["validation_loss"].notna()].set_index("step")
    train, validation = looks["train_loss"], looks["validation_loss"]
    # Replay comes now and then, and a penalty begins at nothing: neither is the target's loss.
    own = [name for task in targets if (name := f"batch_loss:{task}") in rows]
    batches = (rows[own].sum(axis=1, min_count=1) if own else rows["batch_loss"]).dropna()
    means = batches.rolling(min(BATCHES, max(1, len(batches)))).mean().dropna()
    return Curve(
        seed=seed,
        steps=int(rows["step"].max()),
        best=best,
        train_first=float(train.iloc[0]),
        train_best=float(train[best]),
        train_last=float(train.iloc[-1]),
        train_worst=float(train.max()),
        validation_first=float(validation.iloc[0]),
        validation_best=float(validation[best]),
        validation_before=float(validation.iloc[-2 if len(validation) > 1 else -1]),
        validation_last=float(validation.iloc[-1]),
        worst=float(means.max() / means.iloc[0]) if len(means) else 1.0,
    )


def losses(
    tasks: Mapping[str, About], result: RunResult, confidence: float
) -> tuple[tuple[Lost, ...], tuple[str, ...], tuple[Lost, ...]]:
    """Evidence's `lost`, largest drop first, text last; `kept`; `within_noise`."""
    lost, kept, within_noise = [], [], []
    for task, change in result.changes.items():
        about = tasks[task]
        if about.role != "retain":
            continue
        drop = Lost(task, change.interval.value, about.measure.of_text, about.kind)
        if drop.drop > 0 and change.is_real(confidence):
            lost.append(drop)
            continue
        kept.append(task)
        if 0 < drop.drop <= change.floor and change.adjusted_p < 1 - confidence:
            within_noise.append(drop)
    lost.sort(key=lambda one: (one.of_text, -one.drop))
    return tuple(lost), tuple(kept), tuple(within_noise)


def labelled(
    run: pd.DataFrame, task: str, labels: Sequence[str], confidence: float
) -> tuple[dict[str, Relabelled], tuple[tuple[str, int, float], ...]]:
    """See Evidence.renamed and .by_label; empty for a target without labels. Of several seeds, the
    one that a renaming helps least, so that what is said of it holds of each; labels over all."""
    if not labels:
        return {}, ()
    index = {label: place for place, label in enumerate(labels)}
    renamed = {}
    for split in ("train", "test"):
        each = []
        for _, rows in rows_in_order(run, task, split).groupby("seed"):
            if len(rows) < 2:
                continue
            targets, answers = (
                np.asarray(rows[column].map(index), dtype=np.int64)
                for column in ("target", "prediction")
            )
            each.append(relabel(targets, answers, len(labels), confidence))
        if each:
            renamed[split] = min(each, key=lambda one: one.low)
    test = rows_in_order(run, task)
    accuracy = test.groupby("target")["score"].agg(["size", "mean"])
    by_label = tuple(
        (str(label), int(n), float(mean))
        for label, n, mean in zip(accuracy.index, accuracy["size"], accuracy["mean"], strict=True)
    )
    return renamed, by_label


def nearer(
    mixes: Mapping[str, pd.DataFrame],
    run: pd.DataFrame,
    task: str,
    measure: Measure,
    confidence: float,
) -> Nearer | None:
    """Of `mixes` of a run with its base, by name, the best on validation, if on test it is surely
    better than the run. None also for a measure of all examples together."""
    if not mixes or measure.of_all:
        return None
    of_run = {split: _by_example(run, task, split, measure) for split in ("validation", "test")}

    def better(name: str, split: str) -> pd.Series:
        return _by_example(mixes[name], task, split, measure) - of_run[split]

    best = max(sorted(mixes), key=lambda name: float(better(name, "validation").mean()))
    moved = better(best, "test")
    groups = rows_in_order(run, task).groupby("example_id")["group"].first()
    found = interval_for(measure.of_text, of_all=False)(
        moved.to_numpy(), groups.loc[moved.index], confidence
    )
    return Nearer(best, found, measure.of_text) if found.low > 0 else None


def _by_example(records: pd.DataFrame, task: str, split: str, measure: Measure) -> pd.Series:
    """Figures by example id, the mean over seeds; higher is better."""
    rows = rows_in_order(records, task, split)
    found = pd.Series(values(rows, measure), index=rows["example_id"]).groupby(level=0).mean()
    return -found if measure.of_text else found
