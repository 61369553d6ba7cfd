"""The record: the result of one model on one example. Every number comes from records."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.errors import UserError
from stages.phases import phase
from stages.storage import atomic_file

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("split", pa.string()),
        ("example_id", pa.string()),  # hash of the example's content
        ("group", pa.string()),  # examples of one group are not independent
        ("slice", pa.string()),
        ("seed", pa.int64()),  # of the training run; of the repeat where condition is rescored
        ("variant", pa.string()),
        ("condition", pa.string()),
        ("score", pa.float64()),  # the task's primary metric in [0, 1]; null for text tasks
        ("chance", pa.float64()),
        ("nll", pa.float64()),  # of the target, in nats
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
        ("choice_logprobs", pa.list_(pa.float64())),
        ("choice_bytes", pa.list_(pa.int64())),
        ("probabilities", pa.list_(pa.float32())),  # in the order of the task's labels
        ("prediction", pa.string()),
        ("target", pa.string()),
    ]
)
PAIRED_BY = ["task", "split", "example_id", "condition"]
METADATA = b"palimpsest"


@phase("save")
def write_table(
    path: Path, table: pa.Table, about: dict[str, Any], compression: str = "snappy"
) -> None:
    """Write parquet with `about` as JSON in the file's metadata, whole or not at all."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        told = table.replace_schema_metadata({METADATA: text})
        pq.write_table(told, temporary, compression=compression)


@phase("read")
def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table and what its metadata says. Raises UserError where the file cannot be read."""
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[METADATA])
        # Damaged text is noticed only here.
        frame = table.replace_schema_metadata(None).to_pandas()
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of this project ({type(error).__name__}); "
            "delete it and run `dvc repro`"
        ) from None
    return frame, about


def write_records(path: Path, records: pd.DataFrame, about: dict[str, Any]) -> None:
    """Write records in the order of SCHEMA; a column that a scorer left out is null."""
    strange = sorted(set(records.columns) - set(SCHEMA.names))
    if strange:
        raise ValueError(f"no columns of a record: {strange}")
    columns = [
        pa.array(records[field.name], type=field.type, from_pandas=True)
        if field.name in records
        else pa.nulls(len(records), type=field.type)
        for field in SCHEMA
    ]
    write_table(path, pa.Table.from_arrays(columns, schema=SCHEMA), about)


def read_records(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Records and what their file's metadata says. Raises UserError where a column is not that of
    SCHEMA, a figure is missing or out of bounds, or an example stands twice."""
    records, about = read_table(path)
    schema = pq.read_schema(path)
    for field in SCHEMA:
        place = schema.get_field_index(field.name)
        if place < 0 or schema.field(place).type != field.type:
            found = "missing" if place < 0 else f"of type {schema.field(place).type}"
            raise UserError(
                f"{path}, column {field.name!r}: {found}, not {field.type}; delete the file and "
                "run `dvc repro`"
            )
    _check_figures(path, records)
    twice = records.duplicated([*PAIRED_BY, "seed", "variant"])
    if twice.any():
        raise UserError(
            f"{path}: {twice.sum()} of {len(records)} rows are of examples that stand there "
            f"already (first: row {int(twice.argmax()) + 1}); delete the file and run `dvc repro`"
        )
    return records, about


def _check_figures(path: Path, records: pd.DataFrame) -> None:
    parts = [records[column] for column in ("task", "split", "condition")]
    for column, most in (("score", 1.0), ("chance", 1.0), ("nll", sys.float_info.max)):
        values = records[column]
        absent = values.isna()
        # A task has a figure for each of its examples, or for none.
        missing = absent & ~absent.groupby(parts).transform("all")
        wrong = missing | (values < 0) | (values > most)
        if wrong.any():
            first = int(wrong.argmax())
            raise UserError(
                f"{path}, row {first + 1}, column {column!r}: {values[first]} (task "
                f"{records['task'][first]}); {wrong.sum()} of {len(records)} rows lack a figure or "
                "are out of bounds: delete the file and run `dvc repro`"
            )


def pair(base: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame:
    """Rows of `run` beside the base's row on the same example; train rows, which each run has of
    its own, aside.

    `base` has one row an example; `run` may have several (seeds, variants). The result has the
    columns of both, those of the base with the suffix `_base`. Raises UserError with counts
    where an example stands on one side only, or not once with each seed and variant of the run:
    what was asked before must be asked after.
    """
    base, run = (records[records["split"] != "train"] for records in (base, run))
    twice = base.duplicated(PAIRED_BY)
    if twice.any():
        raise UserError(
            f"records of base and run do not pair: {twice.sum()} of {len(base)} rows of the base "
            "are of examples that it has already; run `dvc repro`"
        )
    joined = run.merge(
        base, on=PAIRED_BY, how="outer", suffixes=("", "_base"), indicator=True, validate="m:1"
    )
    unpaired = joined[joined["_merge"] != "both"]
    if len(unpaired):
        only = unpaired["_merge"].value_counts()
        tasks = ", ".join(sorted(unpaired["task"].unique()))
        raise UserError(
            f"records of base and run do not pair: {only['right_only']} rows only in the base, "
            f"{only['left_only']} only in the run (tasks: {tasks}); run `dvc repro`"
        )
    counts = joined.groupby(PAIRED_BY, sort=False).size()
    if counts.min() != counts.max():
        raise UserError(
            f"records of the run are incomplete: between {counts.min()} and {counts.max()} rows an "
            "example; run `dvc repro`"
        )
    # Seeds that each lack another example, or hold all twice, have as many rows an example.
    asked = run.groupby(["seed", "variant"]).size()
    again = run.duplicated([*PAIRED_BY, "seed", "variant"]).sum()
    if again or (asked != len(base)).any():
        raise UserError(
            f"records of the run are incomplete: {asked.min()} to {asked.max()} rows a seed and "
            f"variant, {again} of them of examples that stand there already, {len(base)} in the "
            "base; run `dvc repro`"
        )
    return joined.drop(columns="_merge")
