"""Results -> the rows that `dvc plots` draws, for the templates in .dvc/plots/."""

from typing import Any

import pandas as pd

from stages.statistics.comparison import Case
from stages.statistics.results import BaseResult, RunResult

Rows = list[dict[str, Any]]


def change_rows(name: str, case: Case, run_name: str, run: RunResult) -> Rows:
    """One row a task: the change in points of accuracy, negative = worse, with its interval."""
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
