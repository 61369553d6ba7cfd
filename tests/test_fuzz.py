"""Every reader of tables, archives and what stages write, given damaged files: what is sound in
them, or one line."""

import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from archived import tarred, zipped
from damage import OUTCOME, damaged, fuzz, told
from faults_page import Fault
from hypothesis import given
from hypothesis import strategies as st

from stages import check, errors, verify
from stages.config.readers import Conll, Squad, Table
from stages.records import SCHEMA, read_records, read_table, write_records
from stages.sources.archive import Archive
from stages.sources.pinned import open_source
from stages.storage import read_json, sha256_file
from stages.tasks.cells import REFUSED
from stages.tasks.conll import read_conll
from stages.tasks.squad import read_squad
from stages.tasks.table import read_table_rows

# Tables of one's own

ROWS = [{"text": f"a, b {n} é\n", "label": "red" if n % 3 else "blue"} for n in range(6)]


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream, **options)
    return stream.getvalue()


SOUND = {
    ".csv": [pd.DataFrame(ROWS).to_csv(index=False).encode()],
    ".jsonl": [b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)],
    ".json": [json.dumps(ROWS, indent=1).encode()],
    ".parquet": [
        parquet(ROWS),
        parquet(ROWS, compression="none", use_dictionary=False),
        parquet(ROWS, compression="gzip", row_group_size=2, data_page_version="2.0"),
    ],
}
EXAMPLES = 150


@pytest.mark.parametrize("suffix", SOUND)
def test_tables_of_ones_own(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"table{suffix}")
    columns = {"text": "text", "label": "label"}

    @fuzz(EXAMPLES)
    @given(damaged(SOUND[suffix]))
    def each(content: bytes) -> None:
        path.write_bytes(content)
        pin = {"source": f"file:{path}", "sha256": sha256_file(path)}
        config = Table.model_validate({"reader": "table", **pin, "columns": columns})
        rows = told(lambda: read_table_rows(open_source(**pin), config))
        if rows is not None:
            assert list(rows) == ["text", "label"] and len(rows)
            assert not any(REFUSED.search(cell) for cell in [*rows["text"], *rows["label"]])
        assert list(Path().iterdir()) == [path]

    each()
    fault(f"a damaged {suffix} table, by fuzzing", OUTCOME.format(EXAMPLES))


CONLL = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\nPéter\tNNP\tB-PER\n\n".encode()
ASKED = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "The Normans gave their name to Normandy, a région in France.",
                    "qas": [
                        {
                            "question": "Which région?",
                            "id": "1",
                            "answers": [{"text": "Normandy", "answer_start": 31}],
                        },
                        {"question": "Who?", "id": "2", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def test_conll_and_squad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sound = {"conll": CONLL, "squad": json.dumps(ASKED, ensure_ascii=False).encode()}

    def bad(reader: str) -> st.SearchStrategy[bytes]:
        return damaged([sound[reader]])

    @fuzz(2 * EXAMPLES)
    @given(
        st.sampled_from(sorted(sound)).flatmap(lambda r: st.tuples(st.just(r), damaged([sound[r]])))
    )
    def each(given: tuple[str, bytes]) -> None:
        reader, content = given
        path = Path("file")
        path.write_bytes(content)
        pin = {"source": f"file:{path}", "sha256": sha256_file(path)}
        source = open_source(**pin)
        config = {"reader": reader, **pin}
        if reader == "conll":
            rows = told(lambda: read_conll(source, Conll.model_validate(config)))
        else:
            rows = told(lambda: read_squad(source, Squad.model_validate(config)))
        if rows is not None:
            assert len(rows)
            texts = rows["text" if reader == "conll" else "context"]
            assert not any(REFUSED.search(text) for text in texts)

    each()


# Archives


FILES = {"pkg/a.txt": b"one" * 40, "pkg/b": b"", "../up": b"x", "/abs": b"y"}
MAKERS: dict[str, bytes] = {
    "zip": zipped(FILES),
    **{
        f"tar{end}": tarred(FILES, f"w{end and ':' + end[1:]}")
        for end in ("", ".gz", ".bz2", ".xz")
    },
}


def test_archives(fault: Fault) -> None:
    @fuzz(3 * EXAMPLES)
    @given(damaged(list(MAKERS.values())))
    def each(content: bytes) -> None:
        archive = told(lambda: Archive("pypi:x==1", io.BytesIO(content)))
        if not archive:
            return
        for name in archive.names():
            assert not name.startswith("/") and ".." not in name.split("/")
            told(partial(archive.read, name))

    each()
    fault("a damaged zip or tar, by fuzzing", OUTCOME.format(3 * EXAMPLES))


# What stages write for each other


def test_records(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "r.parquet"
    records = pd.DataFrame(
        {
            "task": "t",
            "split": "test",
            "example_id": [f"{n:016x}" for n in range(20)],
            "condition": "clean",
            "seed": 0,
            "variant": "final",
            "score": 1.0,
            "probabilities": [[0.25, 0.75]] * 20,
        }
    )
    write_records(path, records, {"case": "c"})
    sound = path.read_bytes()

    @fuzz(EXAMPLES)
    @given(damaged([sound]))
    def each(content: bytes) -> None:
        path.write_bytes(content)
        told(lambda: read_table(path))
        found = told(lambda: read_records(path))
        if found:
            frame, _ = found
            assert set(SCHEMA.names) <= set(frame)
            scores = frame["score"].dropna()
            assert ((scores >= 0) & (scores <= 1)).all()

    each()
    fault("damaged records, by fuzzing", OUTCOME.format(EXAMPLES))


def test_json(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "card.json"

    @fuzz(EXAMPLES)
    @given(damaged([json.dumps({"a": [1, None, {"é": 0.5}]}).encode()]))
    def each(content: bytes) -> None:
        path.write_bytes(content)
        told(lambda: read_json(path))

    each()
    fault("a damaged manifest or card, by fuzzing", OUTCOME.format(EXAMPLES))


# params.yaml

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["tiny", "bert", "color-qa", "full", "table", "file:own/model", "lora"]),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(["models", "tasks", "cases", "runs", "seed", "data", "methods"]),
            below,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def check_lines(content: bytes) -> None:
    """`python -m stages.check` over these bytes: sound, or a line a mistake."""
    Path("params.yaml").write_bytes(content)
    try:
        errors.run(check.main)
    except SystemExit as end:
        assert isinstance(end.code, str)
        for line in end.code.splitlines():
            assert line.startswith("error: params.yaml: "), line
            assert line.isprintable()
    assert sorted(path.name for path in Path().iterdir()) == ["own", "params.yaml"]


def test_params(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(own, tmp_path / tiny.OWN)
    params = tiny.make_params(tmp_path)
    sound = yaml.safe_dump(params, sort_keys=False).encode()
    check_lines(sound)
    for other in (b"\xef\xbb\xbfown", b"own/" * 100, b"own\\x", b"~", b""):
        check_lines(sound.replace(b"file:own", b"file:" + other))

    @fuzz(100)
    @given(damaged([sound]))
    def of_bytes(content: bytes) -> None:
        check_lines(content)

    @fuzz(100)
    @given(st.sampled_from([*params, None]), TREES)
    def of_trees(section: str | None, tree: Any) -> None:
        found = {**params, section: tree} if section else tree
        check_lines(yaml.safe_dump(found, allow_unicode=True).encode())

    of_bytes()
    of_trees()
    fault(
        "a damaged params.yaml, and one of other values, by fuzzing",
        "200 files: each sound, or refused, a line a mistake; nothing written",
    )


# What git keeps


def test_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.chdir(tmp_path)
    out = {"path": "data/c/target", "md5": "0" * 32 + ".dir", "hash": "md5"}
    lock = {"schema": "2.0", "stages": {"prepare@c": {"cmd": "python", "outs": [out]}}}

    @fuzz(60)
    @given(damaged([yaml.safe_dump(lock).encode()]))
    def each(content: bytes) -> None:
        Path("dvc.lock").write_bytes(content)
        told(verify.locked_outs)

    each()
    fault("a damaged dvc.lock, by fuzzing", OUTCOME.format(60))
