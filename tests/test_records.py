"""Records on disk and in pairs; files that are whole or not there."""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.errors import UserError
from stages.records import SCHEMA, pair, read_table, write_records, write_table
from stages.storage import (
    atomic_directory,
    atomic_file,
    content_id,
    fingerprint,
    read_json,
    sha256_file,
    write_json,
)


def records(
    ids: str = "abc",
    seeds: tuple[int, ...] = (0,),
    task: str = "t",
    variants: tuple[str, ...] = ("final",),
    condition: str = "clean",
    score: float = 1.0,
) -> pd.DataFrame:
    """One row an example, seed and variant."""
    rows = [
        {
            "task": task,
            "split": "test",
            "example_id": example,
            "group": example,
            "slice": "s",
            "seed": seed,
            "variant": variant,
            "condition": condition,
            "score": score,
        }
        for variant in variants
        for seed in seeds
        for example in ids
    ]
    return pd.DataFrame(rows)


# Records on disk

FULL = {
    "task": ["t", "t"],
    "split": ["test", "validation"],
    "example_id": ["a", "b"],
    "group": ["g", "g"],
    "slice": ["ü", "s"],
    "seed": [0, 2**31 - 1],
    "variant": ["final", "step-200"],
    "condition": ["clean", "rescored"],
    "score": [1.0, 0.0],
    "chance": [0.25, 0.25],
    "nll": [0.5, 1e-9],
    "bytes": [3, 4],
    "tokens": [1, 2],
    "choice_logprobs": [[-1.5, -2.5], [-0.125]],
    "choice_bytes": [[1, 2], [3]],
    "probabilities": [[0.25, 0.75], [1.0, 0.0]],
    "prediction": ["x", "y"],
    "target": ["x", "z"],
}


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "base.parquet"
    frame = pd.DataFrame(FULL)[list(reversed(FULL))]  # the order of columns does not matter
    about = {"case": "ü", "tasks": {"t": [1, None, 0.5]}}
    write_records(path, frame, about)
    back, told = read_table(path)
    assert told == about
    assert list(back.columns) == SCHEMA.names == list(FULL)
    for name, values in FULL.items():
        found = [v.tolist() if isinstance(v, np.ndarray) else v for v in back[name]]
        assert found == values, name
    assert pq.read_schema(path).remove_metadata().equals(SCHEMA)


def test_columns_that_a_scorer_leaves_out_are_null(tmp_path: Path) -> None:
    write_records(tmp_path / "r.parquet", records(), {})
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.schema.remove_metadata().equals(SCHEMA)
    given = set(records().columns)
    for name in SCHEMA.names:
        assert table[name].null_count == (0 if name in given else 3), name


def test_nan_and_none_are_null(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "score": [1.0, math.nan, None],
        "tokens": [1, None, 3],
        "probabilities": [None, [0.5, 0.5], None],
    }
    frame = records().assign(**{name: pd.Series(values) for name, values in columns.items()})
    write_records(tmp_path / "r.parquet", frame, {})
    table = pq.read_table(tmp_path / "r.parquet")
    assert table["score"].to_pylist() == [1.0, None, None]
    assert table["tokens"].to_pylist() == [1, None, 3]
    assert table["probabilities"].to_pylist() == [None, [0.5, 0.5], None]


def test_a_strange_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="acuracy"):
        write_records(tmp_path / "r.parquet", records().assign(acuracy=1.0), {})
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_records(tmp_path / "r.parquet", records().assign(seed="zero"), {})
    assert list(tmp_path.iterdir()) == []


def test_no_records_at_all(tmp_path: Path) -> None:
    write_records(tmp_path / "r.parquet", records().iloc[:0], {"case": "c"})
    back, about = read_table(tmp_path / "r.parquet")
    assert (len(back), about) == (0, {"case": "c"})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metadata_without_a_number_is_refused(tmp_path: Path, value: float) -> None:
    write_table(tmp_path / "t.parquet", pa.table({"a": [1]}), {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_table(tmp_path / "t.parquet", pa.table({"a": [2]}), {"x": [value]})
    back, about = read_table(tmp_path / "t.parquet")
    assert (back["a"].tolist(), about) == ([1], {"old": 1})


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    """DVC goes by the hash of the file."""
    write_records(tmp_path / "a.parquet", records(), {"x": 1, "y": 2})
    write_records(
        tmp_path / "b.parquet", records().set_index(pd.Index([7, 8, 9])), {"y": 2, "x": 1}
    )
    assert sha256_file(tmp_path / "a.parquet") == sha256_file(tmp_path / "b.parquet")


def plain_parquet(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def cut_parquet(path: Path) -> None:
    write_records(path, records(), {})
    path.write_bytes(path.read_bytes()[:-20])


def strange_metadata(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"palimpsest": b"{"}), path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not parquet"),
        plain_parquet,
        cut_parquet,
        strange_metadata,
        lambda path: path.mkdir(),
    ],
    ids=["empty", "text", "foreign", "cut", "metadata", "folder"],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path = tmp_path / "r.parquet"
    make(path)
    with pytest.raises(UserError, match="not a table of this project") as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there; run `dvc repro`"):
        read_table(tmp_path / "none.parquet")


# Pairing


def test_every_row_of_the_run_is_beside_its_base() -> None:
    base = pd.concat([records(score=0.0), records("abd", task="u", score=0.5)])
    run = pd.concat(
        [
            records("cab", (0, 1), variants=("final", "step-2")),
            records("dba", (0, 1), task="u", variants=("final", "step-2"), score=0.25),
        ]
    )
    found = pair(base, run.sample(frac=1, random_state=0))
    assert len(found) == len(run) == 24
    assert set(found["score_base"]) == {0.0, 0.5}
    expected = found["task"].map({"t": 0.0, "u": 0.5})
    assert (found["score_base"] == expected).all()
    assert (found["group_base"] == found["example_id"]).all()
    assert rows_of(found) == rows_of(run)
    assert "_merge" not in found


def rows_of(frame: pd.DataFrame) -> dict[Any, int]:
    keys = ["task", "example_id", "seed", "variant"]
    return {key: len(rows) for key, rows in frame.groupby(keys)}


def test_examples_of_another_task_split_or_condition_do_not_pair() -> None:
    base = records()
    for other in ({"task": "u"}, {"split": "validation"}, {"condition": "typos-0.1"}):
        with pytest.raises(UserError, match="3 rows only in the base, 3 only in the run"):
            pair(base, records().assign(**other))


@pytest.mark.parametrize(
    ("base", "run", "only_base", "only_run"),
    [
        ("abcd", "abc", 1, 0),
        ("ab", "abc", 0, 2),  # twice: a row a seed
        ("abx", "aby", 1, 2),
        ("", "ab", 0, 4),
        ("ab", "", 2, 0),
    ],
)
def test_unpaired_rows_are_counted(base: str, run: str, only_base: int, only_run: int) -> None:
    before = records("q", task="whole")
    after = records("q", (0, 1), task="whole")
    with pytest.raises(UserError) as caught:
        pair(
            pd.concat([before, records(base)] if base else [before]),
            pd.concat([after, records(run, (0, 1))] if run else [after]),
        )
    line = str(caught.value)
    assert f"{only_base} rows only in the base, {only_run} only in the run (tasks: t)" in line
    assert len(line.splitlines()) == 1


def test_a_seed_that_lacks_an_example_is_told() -> None:
    run = pd.concat([records("abc", (0,)), records("ab", (1,))])
    with pytest.raises(UserError, match="incomplete: between 1 and 2 rows an example"):
        pair(records(), run)


def test_a_base_with_two_rows_an_example_is_refused() -> None:
    with pytest.raises(UserError, match="do not pair: 3 of 6 rows of the base are of examples"):
        pair(records(seeds=(0, 1)), records())


# Storage


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def umask() -> Iterator[int]:
    mask = 0o027
    before = os.umask(mask)
    yield mask
    os.umask(before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_not_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "new" / "x.txt"
    for before in (None, "old"):
        if before:
            path.write_text(before, encoding="utf-8")
        with pytest.raises(error), atomic_file(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            assert temporary.parent == path.parent  # a rename within one file system
            assert path.exists() == bool(before)
            raise error
        assert (path.read_text(encoding="utf-8") if path.exists() else None) == before
        assert hidden(path.parent) == []


def test_a_file_replaces_the_one_before(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o600)
    with atomic_file(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert hidden(tmp_path) == []
    assert os.umask(umask) == umask  # as it was


def test_a_file_where_a_folder_is(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"), atomic_file(tmp_path / "x") as temporary:
        temporary.write_text("new", encoding="utf-8")
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_is_not_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "new" / "folder"
    for before in (False, True):
        if before:
            path.mkdir()
            (path / "old").write_text("old", encoding="utf-8")
        with pytest.raises(error), atomic_directory(path) as temporary:
            (temporary / "a").write_text("half", encoding="utf-8")
            raise error
        assert path.exists() == before
        assert hidden(path.parent) == []
    assert [entry.name for entry in path.iterdir()] == ["old"]


def test_a_folder_replaces_the_one_before(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old", encoding="utf-8")
    with atomic_directory(path) as temporary:
        assert list(temporary.iterdir()) == []
        (temporary / "deep").mkdir()
        (temporary / "deep" / "new").write_text("new", encoding="utf-8")
        assert (path / "old").exists()
    found = sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*"))
    assert found == ["deep", "deep/new"]
    assert (path / "deep" / "new").read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    assert hidden(tmp_path) == []


def test_a_folder_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("file", encoding="utf-8")
    with atomic_directory(tmp_path / "x") as temporary:
        (temporary / "a").touch()
    assert [entry.name for entry in (tmp_path / "x").iterdir()] == ["a"]
    assert hidden(tmp_path) == []


def test_json_keeps_order_and_letters(tmp_path: Path) -> None:
    value = {"b": 1, "a": ["ü", None, 0.1, True]}
    write_json(tmp_path / "deep" / "x.json", value)
    text = (tmp_path / "deep" / "x.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "ü" in text
    assert list(json.loads(text)) == ["b", "a"]
    assert read_json(tmp_path / "deep" / "x.json") == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), {1}])
def test_json_refuses_what_it_cannot_say(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"a": [value]})
    assert read_json(path) == {"old": 1}
    assert hidden(tmp_path) == []


def test_fingerprints() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    different = [("a", "b"), ("ab",), ("b", "a"), (["a", "b"],), (1,), ("1",), (1.5,), (None,), ()]
    assert len({fingerprint(*parts) for parts in different}) == len(different)
    assert content_id("a", "b") != content_id("ab", "") != content_id("", "ab")
    assert len(content_id("ü")) == 16
