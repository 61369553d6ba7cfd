"""Results -> the rows that `dvc plots` draws, for the templates in .dvc/plots/."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.report.frontier import plot_rows
from stages.report.measured import Measured
from stages.report.sequences import sequence_rows
from stages.statistics.comparison import Case
from stages.statistics.frontier import Frontier
from stages.statistics.paired import Undefined
from stages.statistics.results import BaseResult, RunResult

Rows = list[dict[str, Any]]


def plots(
    measured: Sequence[Measured], frontiers: Mapping[str, Frontier | Undefined]
) -> dict[str, Rows]:
    """By the name of their file in metrics/plots/. `frontiers`: by case."""
    names = ("changes", "scores", "curves", "frontier", "sequences")
    found: dict[str, Rows] = {name: [] for name in names}
    for one in measured:
        found["frontier"] += plot_rows(one.name, frontiers[one.name])
        found["scores"] += score_rows(one.name, one.case, "base", one.case.base)
        found["sequences"] += sequence_rows(one.name, one.sequences, one.measures)
        for name, ran in one.runs.items():
            found["changes"] += change_rows(one.name, ran.case, name, ran.result)
            found["scores"] += score_rows(one.name, one.case, name, ran.result)
            found["curves"] += curve_rows(one.name, name, ran.training.rows)
    return found


def change_rows(name: str, case: Case, run_name: str, run: RunResult) -> Rows:
    """One row a task: the change, negative = worse, with its interval.

    `measure` tells accuracies from bits per byte, which share no axis.
    """
    rows = []
    for task, change in run.changes.items():
        role = case.tasks[task].role
        ends = [change.interval.low, change.interval.value, change.interval.high]
        if role == "retain":
            ends = [-end for end in reversed(ends)]
        low, value, high = (round(end, 4) for end in ends)
        rows.append(
            {
                "case": name,
                "run": run_name,
                "task": f"{task} ({role})",
                "measure": case.tasks[task].measure.name,
                "change": value,
                "low": low,
                "high": high,
            }
        )
    return rows


def score_rows(name: str, case: Case, run_name: str, result: BaseResult | RunResult) -> Rows:
    """One row a task: the mean score with its interval."""
    rows = []
    for task, scores in result.scores.items():
        interval = scores.metrics[case.tasks[task].measure.name]
        rows.append(
            {
                "case": name,
                "run": run_name,
                "task": task,
                "measure": case.tasks[task].measure.name,
                "score": round(interval.value, 4),
                "low": round(interval.low, 4),
                "high": round(interval.high, 4),
            }
        )
    return rows


def curve_rows(name: str, run_name: str, training: pd.DataFrame) -> Rows:
    """One row a look at the losses: train subset and validation, in evaluation mode."""
    looks = training[training["validation_loss"].notna()]
    return [
        {
            "case": name,
            "run": run_name,
            "curve": f"seed {row['seed']}, {split}",
            "step": row["step"],
            "loss": round(row[f"{split}_loss"], 4),
        }
        for row in looks.to_dict("records")
        for split in ("train", "validation")
    ]
