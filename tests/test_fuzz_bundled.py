"""The readers of the bundled data sets, over other bytes under the same names: rows, or a line."""

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from archived import tarred
from damage import OUTCOME, damaged, fuzz, told
from faults_page import Fault
from hypothesis import given

from stages.errors import UserError
from stages.sources.archive import Archive
from stages.sources.pinned import Source
from stages.tasks import bundled, capitals, humaneval, icd10, newsgroups, reuters, trivia, vader
from stages.tasks.bbc import FOLDER as ARTICLES
from stages.tasks.bbc import read_bbc

EXAMPLES = 40


class Files:
    """A source that holds these bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        if name in self._files:
            return self._files[name]
        outer, _, inner = name.partition("!")
        if not inner or outer not in self._files:
            raise UserError(f"pypi:x==1: no file {name!r}")
        return Archive("pypi:x==1", io.BytesIO(self._files[outer])).read(inner)

    def folder(self, prefix: str, names: Any) -> Path:
        raise NotImplementedError

    def pin(self) -> dict[str, str]:
        return {"source": "pypi:x==1", "sha256": "0" * 64}


def tale(number: int) -> str:
    return f"- - What is the name of thing number {number}?\n  - Thing {number}{number}\n"


COUNTRIES = {
    f"A{n}": {"name": f"Land{n}", "capital": f"Town {n}{n}", "continentcode": "EU"}
    for n in range(8)
}
PROBLEM = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
XML = (
    "<r><chapter><name>1</name><desc>Some (A00-B99)</desc><section><diag><name>A00</name>"
    "<desc>One</desc><diag><name>A00.0</name><desc>Two</desc></diag></diag></section></chapter></r>"
)
TALKS = "".join(map(tale, range(8)))
READERS: dict[str, tuple[Callable[[Source], pd.DataFrame], dict[str, bytes]]] = {
    "bbc": (read_bbc, {f"{ARTICLES}sport/1.txt": b"Title\n\nBody\n"}),
    "newsgroups": (
        newsgroups.read_newsgroups,
        dict.fromkeys(newsgroups.FILES.values(), b"h\nh\nh\na.b\ttext\n"),
    ),
    "reuters": (
        reuters.read_reuters,
        dict.fromkeys(reuters.FILES.values(), b"h\nh\nh\nearn\tprofits rose\n"),
    ),
    "icd10": (lambda source: icd10.read_icd10(source, 3, 0), {"x.xml": XML.encode()}),
    "vader": (
        lambda source: vader.read_vader(source, "tweets", 0.5),
        {vader.ARCHIVE: tarred({"hutto_ICWSM_2014/tweets_GroundTruth.txt": b"1\t3.0\tfine\r\n"})},
    ),
    "trivia": (
        lambda source: trivia.read_trivia(source, 0),
        {
            f"{trivia.FOLDER}{name}.yml": f"conversations:\n{TALKS}".encode()
            for name in (trivia.ALL, *trivia.FACTS)
        },
    ),
    "humaneval": (
        humaneval.read_humaneval,
        {humaneval.FILE: gzip.compress(json.dumps(PROBLEM).encode(), mtime=0)},
    ),
    "capitals": (
        lambda source: capitals.read_capitals(source, 0),
        {
            f"{capitals.FOLDER}continents.json": json.dumps({"EU": {"name": "Europe"}}).encode(),
            f"{capitals.FOLDER}countries.json": json.dumps(COUNTRIES).encode(),
        },
    ),
}
"""Each reader, and a few sound files of its own."""
TEXT = {"humaneval": (gzip.compress, gzip.decompress)}
"""What the bytes are damaged within as well."""


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name: str) -> None:
    read, files = READERS[name]
    assert len(read(Files(files)))


def fuzz_file(
    read: Callable[[Source], pd.DataFrame],
    files: Mapping[str, bytes],
    file: str,
    packed: Callable[[bytes], bytes],
    sound: list[bytes],
) -> None:
    @fuzz(EXAMPLES)
    @given(damaged(sound))
    def each(other: bytes) -> None:
        for spoiled in {other, packed(other)}:
            rows = told(partial(read, Files({**files, file: spoiled})))
            for column in () if rows is None else rows:
                for cell in rows[column]:  # type: ignore[index]
                    str(cell).encode()

    each()


@pytest.mark.parametrize("name", READERS)
def test_other_bytes(name: str, fault: Fault) -> None:
    read, files = READERS[name]
    packed, unpacked = TEXT.get(name, (bytes, bytes))
    for file, content in files.items():
        fuzz_file(read, files, file, packed, [unpacked(content), content])
    fault(f"other bytes for the reader {name}, by fuzzing", OUTCOME.format(EXAMPLES * len(files)))


FOLDED = "conversations:\n- &a [x, y]\n- &b [*a, *a]\n- [*b, *b]\n"
WRONG = {
    "icd10": ("x.xml", b"<r>", "ParseError"),
    "newsgroups": (newsgroups.FILES["test"], b"\xff", "UnicodeDecodeError"),
    "reuters": (reuters.FILES["train"], b"\xff", "UnicodeDecodeError"),
    "vader": (
        vader.ARCHIVE,
        tarred({"hutto_ICWSM_2014/tweets_GroundTruth.txt": b"1\tnan\tfine\r\n"}),
        "a rating of nan",
    ),
    "trivia": (f"{trivia.FOLDER}{trivia.ALL}.yml", b"talks: []", "KeyError"),
    "humaneval": (humaneval.FILE, gzip.compress(b'{"task_id": "x"}'), "KeyError"),
    "capitals": (f"{capitals.FOLDER}countries.json", b"[1]", "AttributeError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_line_names_the_file(name: str, fault: Fault) -> None:
    read, files = READERS[name]
    file, content, reason = WRONG[name]
    with pytest.raises(UserError) as caught:
        read(Files({**files, file: content}))
    said = str(caught.value)
    assert said.startswith(f"pypi:x==1: {file}")
    assert reason in said
    assert said.isprintable()
    fault(f"a file of the reader {name} with other content", "exit 1, one line that names the file")


def test_lists_of_lists_are_not_unfolded() -> None:
    read, files = READERS["trivia"]
    with pytest.raises(UserError, match="lists of lists"):
        read(Files({**files, f"{trivia.FOLDER}{trivia.ALL}.yml": FOLDED.encode()}))


def test_half_a_surrogate_pair() -> None:
    read, files = READERS["humaneval"]
    line = json.dumps({**PROBLEM, "prompt": "\ud800"}).encode()
    with pytest.raises(UserError, match="UnicodeEncodeError"):
        read(Files({**files, humaneval.FILE: gzip.compress(line)}))


def test_a_gzip_bomb(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setattr(bundled, "SMALL", 2**20)
    monkeypatch.setattr(bundled, "RATIO", 2)
    read, files = READERS["humaneval"]
    bomb = gzip.compress(b"\n" * 2**27)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"HumanEval.jsonl.gz: .* would unfold to more than"):
            read(Files({**files, humaneval.FILE: bomb}))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    fault("a gzip bomb for the reader humaneval", "exit 1, one line, before it unfolds")
