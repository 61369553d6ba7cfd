"""The columns that every scorer fills alike."""

from collections.abc import Sequence

import pandas as pd

from stages.tasks.examples import Examples


def record_frame(examples: Examples, split: str, **columns: object) -> pd.DataFrame:
    """Records of `examples`, one a row in their order, with the scorer's `columns`."""
    about = {
        "task": examples.task.name,
        "split": split,
        "example_id": examples.column("example_id"),
        "group": examples.column("group"),
        "slice": examples.column("slice"),
        "seed": 0,
        "variant": "final",
        "condition": "clean",
    }
    return pd.DataFrame({**about, **columns})


def byte_count(examples: Examples, columns: Sequence[str]) -> list[int]:
    """UTF-8 bytes of each example's texts."""
    rows = zip(*(examples.column(column) for column in columns), strict=True)
    return [sum(len(text.encode()) for text in row) for row in rows]
