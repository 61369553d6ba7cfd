"""Tables of a user's own that cannot be asked."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tiny

from bad_inputs.bad import Bad, Spoil, jsonl, rows_of, use, words

COLUMNS = {"text": "text", "label": "label"}
MIB = 2**20


def _file(suffix: str, content: bytes, **data: Any) -> Spoil:
    return lambda project: use(project, f"bad{suffix}", content, columns=COLUMNS, **data)


def _csv(*lines: bytes) -> Spoil:
    """Two sound rows, then these lines."""
    return _file(".csv", b"text,label\na b,red\nc d,green\n" + b"\n".join(lines) + b"\n")


def _line(line: bytes) -> Spoil:
    """A sound row, then this line of a jsonl."""
    return _file(".jsonl", b'{"text": "a b", "label": "red"}\n' + line + b"\n")


def _cell(**cells: Any) -> Spoil:
    """The table as it is, but for cells of its row 7."""

    def spoil(project: Path) -> None:
        rows = rows_of(project)
        rows[6].update(cells)
        use(project, "bad.jsonl", jsonl(rows))

    return spoil


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _damaged(change: Callable[[bytes], bytes]) -> Spoil:
    return _file(".parquet", change(parquet(text=["a", "b"] * 500, label=["x", "y"] * 500)))


def _rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], **data: Any) -> Spoil:
    return lambda project: use(project, "bad.jsonl", jsonl(change(rows_of(project))), **data)


def _with_script(project: Path) -> None:
    folder = project / tiny.OWN / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text("open('was-run', 'w')\n", encoding="utf-8")
    use(project, "scripted/rows.jsonl", jsonl(rows_of(project)), files={"all": "rows.jsonl"})
    params = tiny.read_params(project)
    params["tasks"][tiny.TARGET]["data"].update(tiny.pinned(project, f"{tiny.OWN}/scripted"))
    tiny.write_params(project, params)


def _choices(suffix: str = ".jsonl", times: int = 1, **row: Any) -> Spoil:
    """A multiple-choice table in the place of the retrieval's; its row 2 is this one, and as many
    after it as `times` says."""
    sound = {"context": "The sea is", "choices": ["wet", "dry"], "answer": 0}
    row = {"context": "The sun is", "choices": ["hot", "cold"], "answer": 0} | row

    def spoil(project: Path) -> None:
        params = tiny.read_params(project)
        task = params["tasks"][tiny.RETRIEVAL]
        task["kind"] = "multiple-choice"
        tiny.write_params(project, params)
        columns = {name: name for name in sound}
        content = jsonl([sound, *[row] * times])
        if suffix == ".csv":
            content = b"context,choices,answer\nThe sun is,hot,0\n"
        use(project, f"bad{suffix}", content, tiny.RETRIEVAL, columns=columns)

    return spoil


def _splits(train: str, test: str) -> Spoil:
    """A folder with files of its own for train and test."""

    def spoil(project: Path) -> None:
        folder = project / tiny.OWN / "splits"
        folder.mkdir()
        rows = rows_of(project)
        parts = {"all": rows, "first": rows[:80], "rest": rows[80:], "none": []}
        for name, part in (("train", parts[train]), ("test", parts[test])):
            (folder / f"{name}.jsonl").write_bytes(jsonl(part))
        params = tiny.read_params(project)
        params["tasks"][tiny.TARGET]["data"].update(
            tiny.pinned(project, f"{tiny.OWN}/splits"),
            files={"train": "train.jsonl", "test": "test.jsonl"},
        )
        tiny.write_params(project, params)

    return spoil


def _unpinned(project: Path) -> None:
    with (project / tiny.OWN / f"{tiny.TARGET}.jsonl").open("ab") as stream:
        stream.write(b"\n")


def _missing(project: Path) -> None:
    (project / tiny.OWN / f"{tiny.TARGET}.jsonl").unlink()


def _leaky(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every text twice, the second time with a full stop: splits overlap without duplicates."""
    words = [f"word{number}" for number in range(13)]
    return [{**row, "text": f"{row['text']} {' '.join(words)}"} for row in rows]


def _nested(depth: int) -> bytes:
    return b'{"text": "a", "label": "x", "more": ' + b"[" * depth + b"]" * depth + b"}"


def _labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row has a label of its own: no label of the test split stands in train."""
    return [
        {**row, "label": f"l{number}", "family": f"f{number}"} for number, row in enumerate(rows)
    ]


ROW = "file:own/bad.jsonl: bad.jsonl, row 7, column "
CSV = "file:own/bad.csv: bad.csv"
JSONL = "file:own/bad.jsonl: bad.jsonl"
PARQUET = "file:own/bad.parquet: bad.parquet"
RETRIEVAL = f"{JSONL}, row 2, column "

TABLES = [
    Bad("an empty CSV", _file(".csv", b""), words(f"{CSV}: has no rows")),
    Bad("an empty JSONL", _file(".jsonl", b""), words(f"{JSONL}: has no rows")),
    Bad("an empty Parquet", _file(".parquet", b""), words(f"{PARQUET}: has no rows")),
    Bad("a CSV with a header only", _file(".csv", b"text,label\n"), words(f"{CSV}: has no rows")),
    Bad("a JSONL of blank lines", _file(".jsonl", b"\n \n"), words(f"{JSONL}: has no rows")),
    Bad(
        "a JSON list without rows",
        _file(".json", b"[]"),
        words("file:own/bad.json: bad.json: has no rows"),
    ),
    Bad(
        "a CSV without a column",
        _file(".csv", b"text,class\na,x\n"),
        words(f"{CSV}, column 'label': is missing; there are 'text', 'class'"),
    ),
    Bad(
        "a JSONL without a column",
        _file(".jsonl", b'{"text": "a"}\n'),
        words(f"{JSONL}, column 'label': is missing; there are 'text'"),
    ),
    Bad(
        "a Parquet without a column",
        _file(".parquet", parquet(text=["a"], class_=["x"])),
        words(f"{PARQUET}, column 'label': is missing; there are 'text', 'class_'"),
    ),
    Bad(
        "a CSV with a column twice",
        _file(".csv", b"text,label,text\na,x,b\n"),
        words(f"{CSV}, column 'text': stands twice in the header"),
    ),
    Bad(
        "a CSV with a byte order mark",
        _file(".csv", b"\xef\xbb\xbftext,label\na,x\n"),
        words(f"{CSV}, row 1: begins with a byte order mark"),
    ),
    Bad(
        "a JSONL with a byte order mark",
        _file(".jsonl", b'\xef\xbb\xbf{"text": "a", "label": "x"}\n'),
        words(f"{JSONL}, row 1: begins with a byte order mark"),
    ),
    Bad(
        "a CSV in UTF-16",
        _file(".csv", "text,label\na,x\n".encode("utf-16")),
        words(f"{CSV}, row 1: begins with a byte order mark"),
    ),
    Bad(
        "a CSV row with a field too many",
        _csv(b"e, f,red"),
        words(f"{CSV}, row 3: has 3 fields, the header 2"),
    ),
    Bad(
        "a CSV row with a field too few",
        _csv(b"e f"),
        words(f"{CSV}, row 3: has 1 fields, the header 2"),
    ),
    Bad(
        "a CSV with a quote that is never closed",
        _csv(b'"e f,red'),
        words(f"{CSV}, row 3: is not CSV: unexpected end of data"),
    ),
    Bad(
        "a CSV with text after a quote",
        _csv(b'"e" f,red'),
        words(f"{CSV}, row 3: is not CSV: ',' expected after '\"'"),
    ),
    Bad(
        "a CSV in Latin-1",
        _csv(b"\xe9t\xe9,red"),
        words(f"{CSV}, row 3, column 'text': is not UTF-8 (byte 0xe9, character 1)"),
    ),
    Bad(
        "a JSONL in Latin-1",
        _line(b'{"text": "caf\xe9", "label": "red"}'),
        words(f"{JSONL}, row 2, column 'text': is not UTF-8 (byte 0xe9, character 4)"),
    ),
    Bad(
        "an empty cell of a CSV",
        _csv(b",red"),
        words(f"{CSV}, row 3, column 'text': is empty"),
    ),
    Bad("an absent cell of a JSONL", _cell(label=None), words(f"{ROW}'label': is empty")),
    Bad(
        "a null of a Parquet",
        _file(".parquet", parquet(text=["a", None], label=["x", "y"])),
        words(f"{PARQUET}, row 2, column 'text': is empty"),
    ),
    Bad("a blank label", _cell(label=" "), words(f"{ROW}'label': is empty")),
    Bad(
        "a NUL in a CSV",
        _csv(b"e\0f,red"),
        words(f"{CSV}, row 3, column 'text': holds a NUL (character 2)"),
    ),
    Bad("a NUL in a JSONL", _cell(text="a\0"), words(f"{ROW}'text': holds a NUL (character 2)")),
    Bad(
        "a NUL in a Parquet",
        _file(".parquet", parquet(text=["a", "b\0"], label=["x", "y"])),
        words(f"{PARQUET}, row 2, column 'text': holds a NUL"),
    ),
    Bad(
        "a lone high surrogate",
        _cell(text="a \ud83d b"),
        words(f"{ROW}'text': holds half of a surrogate pair (character 3)"),
    ),
    Bad(
        "a lone low surrogate",
        _cell(label="\ude00"),
        words(f"{ROW}'label': holds half of a surrogate pair (character 1)"),
    ),
    Bad(
        "a text-turning override",
        _cell(text="abc \u202e cba"),
        words(f"{ROW}'text': holds the text-turning control U+202E (character 5)"),
    ),
    Bad(
        "a text-turning isolate in a label",
        _cell(label="red\u2066"),
        words(f"{ROW}'label': holds the text-turning control U+2066 (character 4)"),
    ),
    Bad(
        "a 10 MB row of a CSV",
        _csv(b"x" * 10 * MIB + b",red"),
        words(f"{CSV}, row 3, column 'text': 10485760 characters, more than 1000000"),
    ),
    Bad(
        "a 10 MB row of a JSONL",
        _cell(text="x " * 5 * MIB),
        words(f"{ROW}'text': 10485760 characters, more than 1000000"),
    ),
    Bad(
        "a 10 MB row of a Parquet",
        _file(".parquet", parquet(text=["a", "x" * 10 * MIB], label=["x", "y"])),
        words(f"{PARQUET}, row 2, column 'text': 10485760 characters, more than 1000000"),
    ),
    Bad("a list for a text", _cell(text=["a"]), words(f"{ROW}'text': holds a list: give text")),
    Bad("an object for a label", _cell(label={}), words(f"{ROW}'label': holds a dict: give text")),
    Bad(
        "a NaN in a JSONL",
        _line(b'{"text": "a", "label": NaN}'),
        words(f"{JSONL}, row 2: is not JSON: NaN is no value of JSON"),
    ),
    Bad(
        "an infinity in a JSONL",
        _line(b'{"text": "a", "label": -Infinity}'),
        words(f"{JSONL}, row 2: is not JSON: -Infinity is no value of JSON"),
    ),
    Bad(
        "a NaN in a Parquet",
        _file(".parquet", parquet(text=["a", "b"], label=[0.5, float("nan")])),
        words(f"{PARQUET}, row 2, column 'label': is not a number (NaN)"),
    ),
    Bad(
        "JSON nested 30 levels deep",
        _line(_nested(30)),
        words(f"{JSONL}, row 2: is nested more than 20 levels deep"),
    ),
    Bad(
        "JSON nested 100,000 levels deep",
        _line(_nested(100_000)),
        words(f"{JSONL}, row 2: is nested more than 20 levels deep"),
    ),
    Bad("a row of JSON that is a list", _line(b"[1]"), words(f"{JSONL}, row 2: is a list")),
    Bad("a row of JSON that is a number", _line(b"7"), words(f"{JSONL}, row 2: is a int")),
    Bad(
        "a row of JSON with a name twice",
        _line(b'{"text": "a", "text": "b", "label": "x"}'),
        words(f"{JSONL}, row 2: is not JSON: the name 'text' stands twice in an object"),
    ),
    Bad(
        "a number of JSON with 5,000 digits",
        _line(b'{"text": "a", "label": ' + b"9" * 5000 + b"}"),
        words(f"{JSONL}, row 2: is not JSON: Exceeds the limit"),
    ),
    Bad(
        "a JSONL cut off in its last row",
        _line(b'{"text": "a", "la'),
        words(f"{JSONL}, row 2: is not JSON: Unterminated string"),
    ),
    Bad(
        "a JSONL with something after a row",
        _line(b'{"text": "a", "label": "x"},'),
        words(f"{JSONL}, row 2: is not JSON: Extra data"),
    ),
    Bad(
        "a Parquet cut off",
        _damaged(lambda content: content[: len(content) // 2]),
        words(f"{PARQUET}: is not Parquet: Parquet magic bytes not found in footer"),
    ),
    Bad(
        "a Parquet with a flipped footer",
        _damaged(lambda content: content[:-8] + b"\xff\xff\xff\x7f" + content[-4:]),
        words(f"{PARQUET}: is not Parquet: "),
    ),
    Bad(
        "a Parquet with damaged pages",
        _damaged(lambda content: content[:4] + b"\xff" * 40 + content[44:]),
        words(f"{PARQUET}: is not Parquet: "),
    ),
    Bad(
        "a pickle renamed .parquet",
        _file(".parquet", pickle.dumps({"text": ["a"], "label": ["x"]})),
        words(f"{PARQUET}: is not Parquet: "),
    ),
    Bad(
        "a Parquet whose text is binary",
        _file(".parquet", parquet(text=[b"a", b"\xff"], label=["x", "y"])),
        words(f"{PARQUET}, column 'text': is of type binary"),
    ),
    Bad(
        "a Parquet whose text is a struct",
        _file(".parquet", parquet(text=[{"a": 1}], label=["x"])),
        words(f"{PARQUET}, column 'text': is of type struct<a: int64>"),
    ),
    Bad(
        "a Parquet whose text is a list",
        _file(".parquet", parquet(text=[["a"]], label=["x"])),
        words(f"{PARQUET}, row 1, column 'text': holds a list: give text"),
    ),
    Bad(
        "a Parquet whose label is a time",
        _file(".parquet", parquet(text=["a"], label=pa.array([0], pa.timestamp("ms")))),
        words(f"{PARQUET}, column 'label': is of type timestamp[ms]"),
    ),
    Bad(
        "one label only",
        _rows(lambda rows: [{**row, "label": "red"} for row in rows]),
        words("file:own/bad.jsonl: bad.jsonl, column 'label': holds one label only, 'red'"),
    ),
    Bad(
        "a label that is not in the list",
        _rows(lambda rows: rows, labels=["red", "green", "blue"]),
        words(f"{JSONL}, row 4, column 'label': 'grey' is none of data.labels: red, green, blue"),
    ),
    Bad(
        "no label of the test split in train",
        _rows(_labels),
        words("task color-qa: train holds none of the labels of validation"),
    ),
    Bad(
        "an id that stands twice",
        _rows(
            lambda rows: [{**row, "key": number % 9} for number, row in enumerate(rows)],
            columns={**COLUMNS, "id": "key"},
        ),
        words(f"{JSONL}, row 10, column 'key': '0' stands in row 1 too: an id is unique"),
    ),
    Bad(
        "too few rows for three splits",
        _rows(lambda rows: rows[:35]),
        words("task color-qa: no rows are left for train: 35 distinct rows"),
    ),
    Bad(
        "a text that is always the same",
        _rows(
            lambda rows: (
                [{**row, "text": "same", "label": rows[0]["label"]} for row in rows[:9]]
                + [{**rows[1], "text": "other"}]
            )
        ),
        words("task color-qa: no rows are left for train: 2 distinct rows in 1 groups"),
    ),
    Bad(
        "texts without a letter",
        _rows(lambda rows: [{**row, "text": "…!"} for row in rows]),
        words("task color-qa: no rows are left for train: 0 distinct rows"),
    ),
    Bad(
        "train and test that overlap in most rows",
        _rows(_leaky),
        words("task color-qa: 80 of 80 train rows stand in a test split too, more than 50%"),
    ),
    Bad(
        "a train file without rows",
        _splits("none", "rest"),
        words("file:own/splits: train.jsonl: has no rows"),
    ),
    Bad(
        "a test file that is the train file",
        _splits("first", "first"),
        words("task color-qa: no rows are left for train: 80 distinct rows"),
    ),
    Bad(
        "a format that is not read",
        _file(".xlsx", b"PK"),
        words("file:own/bad.xlsx: bad.xlsx ends in none of .csv, .json, .jsonl, .parquet"),
    ),
    Bad(
        "a file that is not what its pin says",
        _unpinned,
        words("file:own/color-qa.jsonl: expected sha256", ", got ", "put that into params.yaml"),
    ),
    Bad(
        "a data set with a script",
        _with_script,
        words("file:own/scripted: holds a script (scripted.py)", "never run here"),
    ),
    Bad(
        "a file that is not there",
        _missing,
        words("file:own/color-qa.jsonl: no such file or folder; correct the path"),
    ),
    Bad(
        "one choice only",
        _choices(choices=["hot"]),
        words(f"{RETRIEVAL}'choices': holds 1: give two or more"),
    ),
    Bad(
        "a choice without tokens",
        _choices(choices=["hot", " "]),
        words(f"{RETRIEVAL}'choices': choice 1 is empty: it has no tokens to score"),
    ),
    Bad(
        "a choice equal to another",
        _choices(choices=["hot", "cold", "hot "]),
        words(f"{RETRIEVAL}'choices': choices 0 and 2 are the same"),
    ),
    Bad(
        "an answer beyond the choices",
        _choices(answer=2),
        words(f"{RETRIEVAL}'answer': is 2: the choices are numbered from 0 to 1"),
    ),
    Bad(
        "an answer that is no number",
        _choices(answer="hot"),
        words(f"{RETRIEVAL}'answer': 'hot': give the right choice's number"),
    ),
    Bad(
        "the answer in the prompt",
        _choices(times=19, context="The hot sun is"),
        words(
            f"{JSONL}, column 'context': holds the right choice and none of the others in 19 of 20 "
            "rows: it tells the answer"
        ),
    ),
    Bad(
        "choices that are no list",
        _choices(choices="hot, cold"),
        words(f"{RETRIEVAL}'choices': is no list of texts"),
    ),
    Bad(
        "choices in a CSV",
        _choices(".csv"),
        words(f"{CSV}, row 1, column 'choices': is no list of texts"),
    ),
    Bad(
        "a test split of one group",
        _rows(lambda rows: [{**row, "family": f"f{at % 3}"} for at, row in enumerate(rows)]),
        words(f"task {tiny.TARGET}: its 40 test rows are one group", f"tasks.{tiny.TARGET}.test"),
    ),
    Bad(
        "a query that holds its document",
        lambda project: use(
            project,
            "bad.jsonl",
            jsonl([{"query": "find name1 name2", "document": "Name1 name2."}]),
            tiny.RETRIEVAL,
        ),
        words(f"{JSONL}, row 1, column 'query': holds its whole document"),
    ),
]
