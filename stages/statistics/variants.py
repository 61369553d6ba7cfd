"""Whose records are whose: a run's file also holds those of its variants."""

import pandas as pd

FINAL = "final"
"""The variant that is the run itself."""
FOLD, FOLD_BASE = "fold", "fold-base"
"""No variants: records of held-out folds, of the fold's model and of the base."""


def of_variant(records: pd.DataFrame, variant: str = FINAL) -> pd.DataFrame:
    return records[records["variant"] == variant].reset_index(drop=True)


def brief(records: pd.DataFrame) -> pd.DataFrame:
    """What of a model's records is also asked of a variant: validation and test, without noise and
    without texts of its own."""
    asked = (records["condition"] == "clean") & records["split"].isin(["validation", "test"])
    return records[asked].reset_index(drop=True)
