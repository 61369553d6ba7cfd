"""What the train split of a task decides about it."""

from typing import Any

import pandas as pd

from stages.errors import UserError


def labels_of_train(name: str, train: pd.DataFrame) -> list[str]:
    """Those of the train split. Raises UserError where they are one."""
    if "label" in train:
        return sorted(set(train["label"]))
    for column, least in (("tags", 2), ("labels", 1)):
        if column in train:
            found = sorted({label for labels in train[column] for label in labels})
            if len(found) < least:
                raise UserError(f"task {name}: train holds {len(found)} {column} only")
            return found
    return []


def options_of_train(name: str, train: pd.DataFrame) -> dict[str, Any]:
    """Options that the train split decides: whether a question may have no answer; of values their
    mean, spread and range. Raises UserError where all values are the same."""
    if "answers" in train and "starts" in train:
        return {"no_answer": not all(map(len, train["answers"]))}
    if "value" not in train:
        return {}
    values = train["value"].astype(float)
    reach = float(values.max() - values.min())
    if not reach:
        raise UserError(f"task {name}: train holds one value only, {values.iloc[0]:g}")
    return {"mean": float(values.mean()), "spread": float(values.std(ddof=0)), "range": reach}
