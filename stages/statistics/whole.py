"""Whether records hold all that is asked of them."""

from collections.abc import Mapping, Sequence

import pandas as pd

from stages.errors import UserError
from stages.statistics.results import About


def check_whole(
    name: str, records: pd.DataFrame, tasks: Mapping[str, About], conditions: Sequence[str]
) -> None:
    """Raises UserError where a task has no test records under one of `conditions`, or no figures.

    `name`: whose records they are. A base is asked again (`rescored`) for the noise floor.
    """
    test = records[records["split"] == "test"]
    for task, about in tasks.items():
        column = "nll" if about.measure.of_text else "score"
        for condition in conditions:
            asked = test[(test["task"] == task) & (test["condition"] == condition)]
            if asked.empty or asked[column].isna().any():
                lacking = "no rows" if asked.empty else f"rows without {column}"
                raise UserError(
                    f"records of {name}: {lacking} of task {task} under condition {condition!r}; "
                    "run `dvc repro`"
                )
