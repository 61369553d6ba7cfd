"""Tables between the stages that are not what their stage wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tiny

from bad_inputs.bad import Bad, Spoil, words
from stages.records import read_table, write_records
from stages.storage import read_json, write_json

COMPARE = ("compare",)
BASE = f"metrics/records/{tiny.CASE}/base.parquet"
FULL = f"metrics/records/{tiny.CASE}/full.parquet"
AGAIN = "delete the file and run `dvc repro`"
Frames = Callable[[pd.DataFrame], pd.DataFrame]


def _rows(path: str, change: Frames) -> Spoil:
    """Records of the right form, changed."""

    def spoil(project: Path) -> None:
        records, about = read_table(project / path)
        write_records(project / path, change(records), about)

    return spoil


def _table(path: str, change: Callable[[pa.Table], pa.Table]) -> Spoil:
    def spoil(project: Path) -> None:
        pq.write_table(change(pq.read_table(project / path)), project / path)

    return spoil


def _bytes(path: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(project: Path) -> None:
        (project / path).write_bytes(change((project / path).read_bytes()))

    return spoil


def _without_two_of_test(records: pd.DataFrame) -> pd.DataFrame:
    test = records.index[records["split"] == "test"]
    return records.drop(index=test[:2]).reset_index(drop=True)


def _at(row: int, **values: Any) -> Frames:
    def change(records: pd.DataFrame) -> pd.DataFrame:
        for column, value in values.items():
            records.loc[row, column] = value
        return records

    return change


def _of_task(records: pd.DataFrame, task: str, **values: Any) -> pd.DataFrame:
    return records.assign(
        **{column: records[column].where(records["task"] != task) for column in values}
    )


def _gone(path: str) -> Spoil:
    return lambda project: (project / path).unlink()


RECORDS = [
    Bad(
        "a score that is NaN",
        _rows(BASE, _at(0, score=None)),
        words(f"{BASE}, row 1, column 'score': nan (task color-qa); 1 of ", AGAIN),
        COMPARE,
    ),
    Bad(
        "scores that are all NaN",
        _rows(FULL, lambda records: _of_task(records, "mood-words", score=None)),
        words("records of run full: rows without score of task mood-words"),
        COMPARE,
    ),
    Bad(
        "a score above 1",
        _rows(FULL, _at(4, score=1.5)),
        words(f"{FULL}, row 5, column 'score': 1.5", AGAIN),
        COMPARE,
    ),
    Bad(
        "a negative log-likelihood below 0",
        _rows(FULL, _at(2, nll=-1.0)),
        words(f"{FULL}, row 3, column 'nll': -1.0", AGAIN),
        COMPARE,
    ),
    Bad(
        "an infinite log-likelihood",
        _rows(FULL, _at(2, nll=float("inf"))),
        words(f"{FULL}, row 3, column 'nll': inf", AGAIN),
        COMPARE,
    ),
    Bad(
        "records without a column",
        _table(BASE, lambda table: table.drop_columns("score")),
        words(f"{BASE}, column 'score': missing, not double", AGAIN),
        COMPARE,
    ),
    Bad(
        "records with a column of another type",
        _table(
            BASE,
            lambda table: table.set_column(
                table.schema.get_field_index("seed"), "seed", table["seed"].cast(pa.string())
            ),
        ),
        words(f"{BASE}, column 'seed': of type string, not int64", AGAIN),
        COMPARE,
    ),
    Bad(
        "records that hold an example twice",
        _rows(BASE, lambda records: pd.concat([records, records[:3]], ignore_index=True)),
        words(f"{BASE}: 3 of ", "rows are of examples that stand there already", AGAIN),
        COMPARE,
    ),
    Bad(
        "a run that was not asked everything",
        _rows(FULL, _without_two_of_test),
        words("records of base and run do not pair: 2 rows only in the base, 0 only in the run"),
        COMPARE,
    ),
    Bad(
        "a base that was asked less than its run",
        _rows(BASE, lambda records: records.drop(index=[0]).reset_index(drop=True)),
        words("records of base and run do not pair: 0 rows only in the base, 1 only in the run"),
        COMPARE,
    ),
    Bad(
        "a base without a noise floor",
        _rows(
            BASE,
            lambda records: records[records["condition"] != "rescored"].reset_index(drop=True),
        ),
        words("records of the base of tiny: no rows of task ", " under condition 'rescored'"),
        COMPARE,
    ),
    Bad(
        "records of another seed",
        _rows(FULL, lambda records: records.assign(seed=7)),
        words("records of full are of seeds [7], params.yaml says [0]"),
        COMPARE,
    ),
    Bad(
        "records cut off",
        _bytes(FULL, lambda content: content[: len(content) // 2]),
        words(f"{FULL}: not a table of this project (ArrowInvalid)"),
        COMPARE,
    ),
    Bad(
        "records of no bytes",
        _bytes(FULL, lambda content: b""),
        words(f"{FULL}: not a table of this project"),
        COMPARE,
    ),
    Bad(
        "records without metadata",
        _table(FULL, lambda table: table.replace_schema_metadata(None)),
        words(f"{FULL}: not a table of this project (KeyError)"),
        COMPARE,
    ),
    Bad(
        "records that are gone", _gone(FULL), words(f"{FULL}: not there; run `dvc repro`"), COMPARE
    ),
    Bad(
        "curves cut off",
        _bytes(f"metrics/training/{tiny.CASE}/full.parquet", lambda content: content[:200]),
        words(f"metrics/training/{tiny.CASE}/full.parquet: not a table of this project"),
        COMPARE,
    ),
    Bad(
        "a card cut off",
        _bytes(f"metrics/cards/{tiny.CASE}.json", lambda content: content[:100]),
        words(f"metrics/cards/{tiny.CASE}.json: no JSON", "delete it and run `dvc repro`"),
        COMPARE,
    ),
    Bad(
        "examples cut off",
        _bytes(f"data/{tiny.CASE}/target/train/color-qa.parquet", lambda content: content[:500]),
        words(f"data/{tiny.CASE}/target/train/color-qa.parquet: not a table of this project"),
        ("finetune", "full"),
    ),
    Bad(
        "a manifest without its source",
        lambda project: _without_source(project / f"models/base/{tiny.CASE}.json"),
        words("a manifest under models/base lacks 'source'; run `dvc repro`"),
        ("finetune", "full"),
    ),
]


def _without_source(path: Path) -> None:
    manifest = read_json(path)
    del manifest["source"]
    write_json(path, manifest)
