"""The rows of one question: a task, a condition, a split."""

import pandas as pd


def rows_of(
    records: pd.DataFrame, task: str, condition: str = "clean", split: str = "test"
) -> pd.DataFrame:
    """In the order in which they stand."""
    fits = (records["task"] == task) & (records["condition"] == condition)
    return records[fits & (records["split"] == split)]


def rows_in_order(records: pd.DataFrame, task: str, split: str = "test") -> pd.DataFrame:
    """Of clean inputs, by example ids; one row an example where the records are of one seed."""
    return rows_of(records, task, split=split).sort_values("example_id", ignore_index=True)
