"""What a role of a table is made of: a column, one inside of objects, or a text of several."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.config.columns import Columns
from stages.config.readers import Table
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.sources.pinned import open_source
from stages.storage import sha256_path
from stages.tasks.reading import read_split
from stages.tasks.table import read_table_rows

SUFFIXES = (".jsonl", ".parquet")


def _write(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`data` of a task, but for its columns."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return {"reader": "table", "source": f"file:{path}", "sha256": sha256_path(path)}


def _read(path: Path, rows: list[dict[str, Any]], **columns: str) -> list[dict[str, Any]]:
    config = Table.model_validate({**_write(path, rows), "columns": columns})
    source = open_source(config.source, sha256=config.sha256)
    found: Any = read_table_rows(source, config).to_dict("records")
    return list(found)


NESTED: list[dict[str, Any]] = [
    {"said": {"de": "ja", "more": {"en": "yes"}}, "a.b": "flat"},
    {"said": {"de": "nein", "more": {"en": "no"}}, "a.b": "plain"},
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_dot_leads_into_objects(suffix: str, tmp_path: Path) -> None:
    """But where a column is called so."""
    found = _read(tmp_path / f"x{suffix}", NESTED, prompt="said.more.en", completion="a.b")
    assert found == [
        {"prompt": "yes", "completion": ["flat"]},
        {"prompt": "no", "completion": ["plain"]},
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("said.fr", "column 'said.fr': is missing; there are 'said', 'said.de', 'said.more', "),
        ("a.c", "column 'a.c': is missing"),
        ("{said.fr}", "column 'said.fr': is missing"),
    ],
)
def test_what_objects_lack_is_missing(suffix: str, column: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        _read(tmp_path / f"x{suffix}", NESTED, prompt=column, completion="a.b")
    assert said in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_object_without_it_is_an_empty_cell(suffix: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*NESTED, {"said": None, "a.b": "last"}]
    with pytest.raises(UserError, match=r"row 3, column 'said\.de': is empty"):
        _read(tmp_path / f"x{suffix}", rows, prompt="said.de", completion="a.b")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_text_of_several_columns(suffix: str, tmp_path: Path) -> None:
    """Numbers are written out, and an empty cell leaves its place empty."""
    rows: list[dict[str, Any]] = [{"a": "one", "b": None, "n": 1}, {"a": "two", "b": "x", "n": 2}]
    found = _read(tmp_path / f"x{suffix}", rows, prompt="{{{a}}}\n{b}:", completion=" {n}")
    assert found == [
        {"prompt": "{one}\n:", "completion": [" 1"]},
        {"prompt": "{two}\nx:", "completion": [" 2"]},
    ]


def test_a_cell_of_a_text_is_judged_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1, column 'a': holds a list: give text"):
        _read(tmp_path / "x.jsonl", [{"a": ["x"], "b": "y"}], prompt="{a}", completion="b")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{a", "expected '}' before end of string; two braces"),
        ("a}", "Single '}' encountered in format string; two braces"),
        ("{}", "a column's name stands in braces, and nothing else"),
        ("{a!r}", "a column's name stands in braces, and nothing else"),
        ("{{a}}", "names no column"),
    ],
)
def test_a_wrong_text_is_told(told: str, said: str) -> None:
    with pytest.raises(ValueError, match="prompt") as caught:
        Columns.model_validate({"prompt": told})
    assert said in str(caught.value)


def _task(data: dict[str, Any], **changed: Any) -> TaskConfig:
    sizes = {"max_length": 32, "train": 20, "validation": 10, "test": 10}
    written = {"max_new_tokens": 8, "metric": "f1"}
    return TaskConfig.model_validate(
        {"kind": "completion", "data": data, **sizes, **written} | changed
    )


@pytest.mark.parametrize(
    ("suffix", "none"),
    [*((suffix, none) for suffix in SUFFIXES for none in ("", " ", None)), (".jsonl", [])],
)
def test_unanswered_rows_are_left_out_and_counted(suffix: str, none: Any, tmp_path: Path) -> None:
    rows = [{"a": f"ask {n}", "b": none if n % 3 == 0 else f"say {n}"} for n in range(60)]
    data = _write(tmp_path / f"x{suffix}", rows)
    data |= {"columns": {"prompt": "a", "completion": "b"}, "drop_unanswered": True}
    split = read_split("t", _task(data), 0)
    assert (split.read, split.empty) == (60, 20)
    assert {size: len(one) for size, one in split.rows.items()} == {
        "train": 20,
        "validation": 10,
        "test": 10,
    }
    said = [one for part in split.rows.values() for (one,) in part["completion"]]
    assert all(one.startswith("say ") for one in said)


def test_only_a_completion_is_left_out(tmp_path: Path) -> None:
    data = _write(tmp_path / "x.jsonl", [{"a": "b"}]) | {"drop_unanswered": True}
    data |= {"columns": {"text": "a"}}
    kind = {"kind": "language-modelling", "max_new_tokens": None, "metric": None}
    with pytest.raises(ValueError, match="drop_unanswered: does not apply to a language-mod"):
        _task(data, **kind)
