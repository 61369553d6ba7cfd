"""The records that a diagnosis looks at, one row an example."""

import pandas as pd


def rows_of(
    records: pd.DataFrame, task: str, split: str = "test", condition: str = "clean"
) -> pd.DataFrame:
    """Of one seed, in order of example ids."""
    fits = (records["task"] == task) & (records["condition"] == condition)
    chosen = records[fits & (records["split"] == split)]
    return chosen.sort_values("example_id", ignore_index=True)
