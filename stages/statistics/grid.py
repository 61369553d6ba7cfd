"""The test records of one task as a grid: seeds by examples."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats
from stages.statistics.measures import Measure, values
from stages.statistics.rows import rows_of


@dataclass(frozen=True)
class Grid:
    """`figures` [seeds, n]: the measure of each example, in order of their ids. `rows`: the
    records, one table a seed in the same order."""

    figures: Floats
    rows: list[pd.DataFrame]

    @property
    def n(self) -> int:
        return len(self.rows[0])

    @property
    def groups(self) -> list[str]:
        return list(self.rows[0]["group"])

    @property
    def chance(self) -> float | None:
        chance = self.rows[0]["chance"]
        return None if chance.isna().any() else float(chance.mean())


def grid_of(records: pd.DataFrame, task: str, measure: Measure, condition: str = "clean") -> Grid:
    chosen = rows_of(records, task, condition)
    rows = [
        of_seed.sort_values("example_id", ignore_index=True)
        for _, of_seed in chosen.groupby("seed", sort=True)
    ]
    return Grid(np.stack([values(of_seed, measure) for of_seed in rows]), rows)
