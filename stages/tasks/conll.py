"""CoNLL files: a word and its tag a line, an empty line after each sentence.

As of the shared tasks of CoNLL-2002 and 2003 (Tjong Kim Sang and De Meulder 2003).
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pandas as pd

from stages.config.readers import Conll
from stages.sources.pinned import Source
from stages.tasks.cells import WrongCellError, text_of
from stages.tasks.files import read_files
from stages.tasks.table_files import decoded

DOCUMENT = "-DOCSTART-"
"""The word of a line that begins a document."""
TAG = re.compile(r"O|[BIES]-\S+")

Line = tuple[int, str, str]
"""Its number from 1, the word and the tag."""


def read_conll(source: Source, config: Conll) -> pd.DataFrame:
    """tokens and tags, lists; text: the words with a space between two; group: the document, where
    a file tells documents apart; none of sentences outside of them.

    Columns are separated by a tab, in lines that have one, or by spaces. Raises UserError with
    file and line where a column is missing or a tag is none.
    """
    return read_files(source, config, lambda name: _sentences(source.read(name), name, config))


def _sentences(content: bytes, name: str, config: Conll) -> list[dict[str, Any]]:
    document, rows = 0, []
    lines = [_line(number, line, config) for number, line in enumerate(_split(content), 1)]
    for filled, sentence in groupby(lines, key=bool):
        words = [line for line in sentence if line]
        if words and words[0][1] == DOCUMENT:
            document += 1
            words = words[1:]
        if filled and words:
            _, tokens, tags = map(list, zip(*words, strict=True))
            row: dict[str, Any] = {"text": " ".join(tokens), "tokens": tokens, "tags": tags}
            rows.append(row | ({"group": f"{name} {document}"} if document else {}))
    if not rows:
        raise WrongCellError(0, None, "has no sentences")
    return rows


def _split(content: bytes) -> Iterator[str]:
    # Not splitlines, to which some characters inside a word end a line.
    return (line.rstrip("\r") for line in decoded(content).split("\n"))


def _line(number: int, line: str, config: Conll) -> Line | None:
    """None where it ends a sentence."""
    if not line.strip():
        return None
    cells = line.split("\t") if "\t" in line else line.split()
    found = []
    for column in (config.token, config.tag):
        if not -len(cells) <= column < len(cells):
            told = f"has {len(cells)} columns, and no column {column}"
            raise WrongCellError(number, None, f"{told}: see data.token and data.tag")
        found.append(text_of(cells[column].strip() or None, number, str(column)))
    token, tag = found
    if token != DOCUMENT and not TAG.fullmatch(tag):
        raise WrongCellError(
            number,
            str(config.tag),
            f"{tag[:40]!r} is no tag: give O, or B-, I-, E- or S- and a type",
        )
    return number, token, tag
