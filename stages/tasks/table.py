"""Rows of one's own: csv, jsonl or parquet, from a file or from a data set of the hub."""

import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from stages.config.columns import filled, is_template, names_in
from stages.config.readers import Table
from stages.errors import UserError, one_line
from stages.sources.pinned import Source
from stages.tasks.cells import WrongCellError, text_of
from stages.tasks.chat import ASSISTANT, messages_of
from stages.tasks.choices import gives_away
from stages.tasks.files import chosen_files, read_files
from stages.tasks.refusals import EXPECTED
from stages.tasks.relation import unmarked
from stages.tasks.splitting import normalise
from stages.tasks.table_files import READERS, Row, read_rows

Cells = dict[str, Any]
"""The cells of a row by their role: text, label, choices …"""

TELLING = 0.9
"""The share of contexts that may hold the right choice and none of the others. A passage that is
read for its answer often holds it, and holds "no" by chance; but where more rows do, who takes
the choice that stands in the context is right nine times in ten without reading."""
LEAST = 20
"""Rows of a file below which that share says nothing: ten of ten may be chance."""


def read_table_rows(source: Source, config: Table) -> pd.DataFrame:
    """The columns that `config.columns` names, under this project's names; `split` if given.

    Raises UserError that names file, row and column where a file cannot be read, or a row not
    be asked: see `_read`.
    """
    _refuse_script(source, config)
    rows = read_files(source, config, lambda name: _read(source, name, config))
    if "label" in rows and (rows["label"] == rows["label"][0]).all():
        raise UserError(
            one_line(
                f"{config.source}: {', '.join(chosen_files(source, config).values())}, column "
                f"{config.columns.label!r}: holds one label only, {rows['label'][0]!r}: there is "
                "nothing to tell apart"
            )
        )
    return rows.drop(columns="id", errors="ignore")


def _refuse_script(source: Source, config: Table) -> None:
    """A script beside the files says that they are not the rows: libraries of data sets run it."""
    if config.source.startswith("pypi:"):
        return  # a wheel is code, of which nothing is run
    for name in source.names():
        if name.endswith(".py") and "/" not in name:
            raise UserError(
                f"{config.source}: holds a script ({name}), which a data set is made by and which "
                "is never run here: name a table itself (file:<table>), or a revision that has "
                "files alone"
            )


def _read(source: Source, name: str, config: Table) -> list[Cells]:
    """Raises WrongCellError where a cell is refused (see `text_of`), where a label is none of
    `config.labels`, an id stands twice, choices are alike or none, or contexts tell the answers."""
    suffix = PurePosixPath(name).suffix
    if suffix not in READERS:
        raise UserError(f"{config.source}: {name} ends in none of {', '.join(READERS)}")
    wanted: dict[str, str] = config.columns.model_dump(exclude_none=True)
    seen: dict[str, int] = {}
    rows = []
    columns = list(dict.fromkeys(column for told in wanted.values() for column in names_in(told)))
    for number, row in enumerate(read_rows(suffix, source.read(name), columns), 1):
        cells = {role: _cell(role, row, number, told, config) for role, told in wanted.items()}
        for check in CHECKS:
            if wrong := check(cells, config):
                role, reason = wrong
                raise WrongCellError(number, wanted[role], reason)
        if "id" in cells and (first := seen.setdefault(cells["id"], number)) != number:
            raise WrongCellError(
                number, wanted["id"], f"{cells['id']!r} stands in row {first} too: an id is unique"
            )
        rows.append(cells)
    telling = sum(map(_tells, rows))
    if len(rows) >= LEAST and telling > TELLING * len(rows):
        raise WrongCellError(
            0,
            wanted["context"],
            f"holds the right choice and none of the others in {telling} of {len(rows)} rows: it "
            "tells the answer",
        )
    return rows


def _tells(cells: Cells) -> bool:
    """Whether the context holds the right choice, word for word, and no other."""
    if "choices" not in cells:
        return False
    held = [
        place for place, one in enumerate(cells["choices"]) if gives_away(cells["context"], one)
    ]
    return held == [cells["answer"]]


def _cell(role: str, row: Row, number: int, column: str, config: Table) -> Any:
    value = _filled(column, row, number) if is_template(column) else row[column]
    if role in ("choices", "labels"):
        if not isinstance(value, list):
            raise WrongCellError(number, column, "is no list of texts, as jsonl and parquet have")
        return [text_of(choice, number, column).strip() for choice in value]
    if role == "completion":
        accepted = value if isinstance(value, list) else [value]
        if config.drop_unanswered:
            accepted = [one for one in accepted if one is not None and str(one).strip()]
        return [text_of(one, number, column) for one in accepted]
    if role == "messages":
        return messages_of(value, number, column)
    text = text_of(value, number, column)
    if role == "value":
        return _number(text, number, column)
    if role == "answer":
        if not text.isascii() or not text.isdigit():
            raise WrongCellError(number, column, f"{text[:40]!r}: give the right choice's number")
        return int(text[:9])
    return text


def _filled(template: str, row: Row, number: int) -> str:
    """An empty cell is an empty piece of the text: not every instruction has an input."""
    cells = {name: "" if row[name] is None else row[name] for name in names_in(template)}
    return filled(template, {name: text_of(one, number, name) for name, one in cells.items()})


def _number(text: str, number: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise WrongCellError(number, column, f"{text[:40]!r}: give a number") from None
    if not math.isfinite(value):
        raise WrongCellError(number, column, f"{text[:40]!r}: give a finite number")
    return value


def _labels(cells: Cells, config: Table) -> tuple[str, str] | None:
    """In order of their names, none twice: labels have no order."""
    if "labels" not in cells:
        return None
    found = cells["labels"]
    cells["labels"] = sorted(set(found))
    if "" in found:
        return "labels", "holds an empty label"
    strange = [label for label in found if config.labels and label not in config.labels]
    if strange:
        return "labels", f"{strange[0][:60]!r} is none of data.labels"
    return None


def _label(cells: Cells, config: Table) -> tuple[str, str] | None:
    label = cells.get("label")
    if label is not None and not label.strip():
        return "label", "is empty"
    if label is not None and config.labels and label not in config.labels:
        known = ", ".join(config.labels[:10])
        return "label", f"{label[:60]!r} is none of data.labels: {known}"
    return None


def _document(cells: Cells, _: Table) -> tuple[str, str] | None:
    if "document" not in cells or not normalise(cells["document"]):
        return None
    if gives_away(cells["query"], cells["document"]):
        return "query", "holds its whole document: there is nothing to look for"
    return None


def _choices(cells: Cells, _: Table) -> tuple[str, str] | None:
    if "choices" not in cells:
        return None
    choices, answer = cells["choices"], cells["answer"]
    if len(choices) < 2:
        return "choices", f"holds {len(choices)}: give two or more"
    if answer >= len(choices):
        return "answer", f"is {answer}: the choices are numbered from 0 to {len(choices) - 1}"
    if not all(choices):
        return "choices", f"choice {choices.index('')} is empty: it has no tokens to score"
    for place, choice in enumerate(choices):
        if choice in choices[:place]:
            return "choices", f"choices {choices.index(choice)} and {place} are the same"
    cells["choices"] = [f" {choice}" for choice in choices]  # the space that follows the context
    return None


def _expected(cells: Cells, _: Table) -> tuple[str, str] | None:
    if "expected" not in cells:
        return None
    said = cells["expected"].strip().lower()
    if said not in EXPECTED:
        return "expected", f"{cells['expected'][:40]!r}: give {' or '.join(EXPECTED)}"
    cells["expected"] = EXPECTED[said]
    return None


def _pair(cells: Cells, _: Table) -> tuple[str, str] | None:
    for one, other in (("good", "bad"), ("stereotype", "antistereotype")):
        if one in cells and cells[one].strip() == cells[other].strip():
            return one, f"is the same sentence as its {other} one: there is nothing to tell apart"
    return None


def _marked(cells: Cells, _: Table) -> tuple[str, str] | None:
    if "marked" not in cells:
        return None
    found = unmarked(cells["marked"])
    if found is None:
        return "marked", "needs <e1>…</e1> and <e2>…</e2> around two entities, once each and apart"
    del cells["marked"]
    cells.update(found)
    return None


def _completion(cells: Cells, config: Table) -> tuple[str, str] | None:
    """A row that may go without has an empty list: it is left out in splitting.py."""
    if "completion" not in cells or config.drop_unanswered:
        return None
    if not cells["completion"]:
        return "completion", "holds no text: give one that is accepted, or several"
    if not all(one.strip() for one in cells["completion"]):
        return "completion", "holds an empty text: there is nothing to write"
    return None


def _messages(cells: Cells, _: Table) -> tuple[str, str] | None:
    """In their place what an example of kind chat has. What follows the assistant's last message
    is left out."""
    if "messages" not in cells:
        return None
    roles, contents = (list(part) for part in zip(*cells["messages"], strict=True))
    if ASSISTANT not in roles:
        return "messages", "holds no message of the assistant's: there is nothing to learn"
    end = len(roles) - roles[::-1].index(ASSISTANT)
    if not contents[end - 1].strip():
        return "messages", "ends with an empty message of the assistant's"
    if end < 2:
        return "messages", "holds nothing before the assistant's last message to answer"
    del cells["messages"]
    cells |= {
        "prompt": "\n".join(contents[: end - 1]),
        "roles": roles[:end],
        "contents": contents[:end],
    }
    return None


CHECKS: tuple[Callable[[Cells, Table], tuple[str, str] | None], ...] = (
    _label,
    _labels,
    _document,
    _choices,
    _expected,
    _pair,
    _marked,
    _completion,
    _messages,
)
"""Each says what is wrong with a row: in which role's column, and why."""
