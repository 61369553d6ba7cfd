"""What two branches are told apart by, from their records, and what is not compared."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny

from stages import branches
from stages.records import read_records
from stages.statistics.gate import Limits
from stages.statistics.results import Settings

SETTINGS = Settings(
    confidence=0.95,
    resamples=500,
    seed=1,
    limits=Limits(margin=0.05, text_margin=0.02, margins={}, minimum_gain=None, confidence=0.95),
)
Records = dict[str, tuple[pd.DataFrame, dict[str, Any]]]


class There(branches.Branch):
    """A branch whose records are at hand."""

    def __init__(self, name: str, records: Records) -> None:
        self.name = name
        self.runs = {"full": tiny.CASE}
        self._records = records

    def records(self, case: str, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
        return self._records[name]


@pytest.fixture
def here(bench: Path) -> Records:
    return {
        name: read_records(bench / f"metrics/records/{tiny.CASE}/{name}.parquet")
        for name in ("base", "full")
    }


def told(one: Records, other: Records) -> list[str]:
    compared = There("main", one), There("other", other)
    return [line for line in branches._of_case(tiny.CASE, compared, SETTINGS) if line]


def of_task(lines: list[str], task: str) -> str:
    (found,) = (line for line in lines if line.startswith(f"| full | {task} |"))
    return found


def test_a_branch_is_like_itself(here: Records) -> None:
    lines = told(here, here)
    assert len(lines) == 3 + 1 + len(tiny.RETAIN)
    for task in (tiny.TARGET, *tiny.RETAIN):
        assert of_task(lines, task).endswith("| +0.0 [+0.0, +0.0] | 0.0, 0.0 | no |")


def test_what_is_not_asked_alike_is_not_compared(here: Records) -> None:
    other = deepcopy(here)
    asked = other["base"][1]["tasks"]
    asked["new"] = asked.pop("mood-words")
    asked["shape-topics"]["kind"] = "regression"
    # Of the run's records: a query less, and with it a document.
    rows, about = other["full"]
    asked_of = (rows["task"] == tiny.RETRIEVAL) & (rows["split"] == "test")
    queries = rows.loc[asked_of, "example_id"]
    other["full"] = rows[rows["example_id"] != queries.iloc[0]], about
    lines = told(here, other)
    assert of_task(lines, "mood-words").endswith("| only on main |")
    assert of_task(lines, "new").endswith("| only on other |")
    assert of_task(lines, "shape-topics").endswith("| accuracy on the one, spearman on the other |")
    assert of_task(lines, tiny.RETRIEVAL).endswith("| not asked among the same documents |")
    assert of_task(lines, tiny.TARGET).endswith("| no |")


def test_another_device_is_told(here: Records) -> None:
    other = deepcopy(here)
    other["full"][1]["provenance"] |= {"dtype": "float8", "inputs": {"data": "others"}}
    before = here["full"][1]["provenance"]["dtype"]
    assert [line.strip() for line in told(here, other) if "measured" in line] == [
        f"other was measured with another dtype than main (float8, not {before}): part of the "
        "change may be that (full)."
    ]
