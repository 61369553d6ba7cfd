"""Which tasks a model has lost something of, seen from two sets of records."""

import numpy as np
import pandas as pd

from stages.statistics.measures import Measure, values
from stages.statistics.paired import sign_flip

ALPHA, DRAWS, SEED = 0.05, 1000, 0
TAUGHT = 2.0
"""Share of a loss that comes back with a few examples, from where they taught so much more than was
lost that nothing is known of what was."""


def clean_test(records: pd.DataFrame, task: str) -> pd.DataFrame:
    """One row an example, in order of their ids; of a file with one seed."""
    fits = (records["task"] == task) & (records["split"] == "test")
    chosen = records[fits & (records["condition"] == "clean")]
    return chosen.sort_values("example_id", ignore_index=True)


def has_lost(base: pd.DataFrame, run: pd.DataFrame, task: str, measure: Measure) -> bool:
    """Worse on the clean test split, and not by chance (sign-flip test, 5 %). Not adjusted for
    the number of tasks: who asks wants to miss none."""
    before, after = (clean_test(records, task) for records in (base, run))
    worse = values(before, measure) - values(after, measure)
    worse = -worse if measure.of_text else worse
    return bool(np.mean(worse) > 0 and sign_flip(worse, before["group"], DRAWS, SEED) < ALPHA)
