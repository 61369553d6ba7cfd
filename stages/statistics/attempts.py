"""Records of a case -> what each of its models gained and lost, for the frontier."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats
from stages.statistics.frontier import Attempt
from stages.statistics.measures import Measure, values
from stages.statistics.results import About
from stages.statistics.variants import brief

PROMPT = "prompt"
"""What the untouched model with a few-shot prompt is an attempt at, in place of a method."""


@dataclass(frozen=True)
class Weighed:
    """The tasks that a frontier counts: targets, and accuracy-like retain tasks that no run of the
    case has seen; text is in another unit. `apart`: targets that are text, where others are not."""

    targets: Mapping[str, Measure]
    unseen: Mapping[str, Measure]
    apart: tuple[str, ...] = ()

    @classmethod
    def of(cls, tasks: Mapping[str, About], seen: Sequence[str]) -> "Weighed":
        measures = {name: about.measure for name, about in tasks.items()}
        targets = {n: one for n, one in measures.items() if tasks[n].role == "target"}
        unseen = {
            name: one
            for name, one in measures.items()
            if name not in targets and name not in seen and not one.of_text
        }
        texts = tuple(name for name, one in targets.items() if one.of_text)
        apart = texts if len(texts) < len(targets) else ()
        counted = {name: one for name, one in targets.items() if name not in apart}
        return cls(counted, unseen, apart)

    def lacking(self, base: pd.DataFrame) -> str | None:
        """Why there is no frontier."""
        validated = set(base.loc[base["split"] == "validation", "task"])
        if not self.unseen:
            return "no accuracy-like retain task is unseen by all runs"
        for side, what in ((self.targets, "target"), (self.unseen, "unseen retain task")):
            if not validated.intersection(side):
                return f"no {what} has validation examples, which attempts are chosen by"
        return None


def attempt(
    name: str, method: str, base: pd.DataFrame, records: pd.DataFrame, weighed: Weighed
) -> Attempt:
    """`records`: of one model, its seeds; they pair with those of `base`. A task of lm-eval may
    have no validation examples: it has no say in the choice then."""
    before, after = _by_task(brief(base)), _by_task(brief(records))

    def better(split: str, measures: Mapping[str, Measure]) -> dict[str, Floats]:
        return {
            task: _better(before[split, task], after[split, task], measure)
            for task, measure in measures.items()
        }

    gain, kept = (better("test", side) for side in (weighed.targets, weighed.unseen))
    validated = [
        {task: measure for task, measure in side.items() if ("validation", task) in before}
        for side in (weighed.targets, weighed.unseen)
    ]
    gained, held = (
        {task: float(one.mean()) for task, one in better("validation", side).items()}
        for side in validated
    )
    earlier = float(np.mean([*gained.values()])), -float(np.mean([*held.values()]))
    drop = {task: -change for task, change in kept.items()}
    by_task = {task: -held[task] if task in held else None for task in weighed.unseen}
    return Attempt(name, method, earlier, gain, drop, by_task)


def prompted_base(base: pd.DataFrame, prompted: pd.DataFrame, weighed: Weighed) -> Attempt | None:
    """The untouched model with a few-shot prompt, which loses nothing: its weights are the base's.

    `prompted`: its records, see stages/statistics/prompted.py; None where there are none.
    """
    if prompted.empty:
        return None
    (shots,) = set(prompted["condition"])
    before, after = _by_task(brief(base)), _by_task(prompted)
    gain = {
        split: {
            task: _better(before[split, task], after[split, task], measure)
            for task, measure in weighed.targets.items()
        }
        for split in ("validation", "test")
    }
    earlier = float(np.mean([one.mean() for one in gain["validation"].values()]))
    kept = {task: np.zeros(len(before["test", task])) for task in weighed.unseen}
    return Attempt(f"base@{shots}", PROMPT, (earlier, 0.0), gain["test"], kept)


def groups_of(base: pd.DataFrame, weighed: Weighed) -> dict[str, list[Hashable]]:
    """Of the test examples, in the order of `attempt`."""
    rows = _by_task(brief(base))
    return {task: list(rows["test", task]["group"]) for task in (*weighed.targets, *weighed.unseen)}


def _by_task(records: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """By split and task; examples in order of their ids, seeds one after another."""
    return {
        (str(split), str(task)): rows.sort_values(["seed", "example_id"], ignore_index=True)
        for (split, task), rows in records.groupby(["split", "task"])
    }


def _better(before: pd.DataFrame, after: pd.DataFrame, measure: Measure) -> Floats:
    """By how much each example got better, seeds averaged."""
    seeds = values(after, measure).reshape(-1, len(before))
    change: Floats = seeds.mean(axis=0) - values(before, measure)
    return -change if measure.of_text else change
