"""Which kind of task a table of one's own is for a kind of model, by its columns."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.config.columns import Columns, names_in
from stages.config.kinds import ANSWERS, UNTAUGHT
from stages.config.reading import suggestion
from stages.config.tasks import COLUMNS, OPTIONAL
from stages.errors import UserError
from stages.tasks.cells import WrongCellError
from stages.tasks.table_files import READERS, read_rows


@dataclass(frozen=True)
class Table:
    kind: str
    columns: Mapping[str, str]
    rows: int


def fitting(given: str, kind: str, chosen: str) -> Table:
    """What the table at `given` holds that a model of this kind can learn.

    `chosen`: `<role>:<column>,…` where columns have other names than their roles. Raises UserError
    where that is nothing.
    """
    path = Path(given)
    if not path.is_file():
        raise UserError(f"DATA={given}: no such file")
    if path.suffix not in READERS:
        raise UserError(f"DATA={given}: ends in none of {', '.join(READERS)}")
    columns, content = _roles(chosen), path.read_bytes()
    failed, lacking, there = list[str](), list[str](), ""
    for task in _fitting(kind, columns):
        wanted = {role: columns.get(role, role) for role in (*COLUMNS[task], *columns)}
        try:
            names = dict.fromkeys(name for told in wanted.values() for name in names_in(told))
            rows = len(read_rows(path.suffix, content, list(names)))
        except WrongCellError as error:
            if not columns and error.column and not error.row:  # there is no such column
                there = error.reason.partition("; ")[2]
                lacking.append(f"{task} takes {', '.join(COLUMNS[task])}")
            else:
                failed.append(f"{task}{error}")
            continue
        except ValueError as error:
            raise UserError(f"COLUMNS={chosen}: {error}") from None
        if task in UNTAUGHT:
            raise UserError(f"DATA={given}: is {task}: {UNTAUGHT[task]}")
        return Table(task, wanted, rows)
    reasons = "; ".join(failed or ([there, *lacking] if lacking else [_unfit(kind, columns)]))
    raise UserError(f"DATA={given}: {reasons}; say COLUMNS=<role>:<column>,…, see the README")


def _unfit(kind: str, columns: Collection[str]) -> str:
    named = set(columns) - set(OPTIONAL)
    others = [task for task in COLUMNS if named <= set(COLUMNS[task])]
    if not others:
        return "no kind of task has these columns"
    likeliest = min(others, key=lambda task: len(COLUMNS[task]))
    return f"these columns are of {likeliest}, which a model of kind {kind} is not asked"


def _roles(chosen: str) -> dict[str, str]:
    """Of each role its column, or a text with columns in braces, which may hold commas and \\n."""
    columns: dict[str, str] = {}
    for one in re.split(r",(?=\w+:)", chosen) if chosen else ():
        role, _, column = one.replace("\\n", "\n").partition(":")
        if role not in Columns.model_fields:
            near = suggestion(role, list(Columns.model_fields))
            raise UserError(f"COLUMNS={chosen}: {role!r} is no role{near}")
        if not column or role in columns:
            reason = "has no column: give <role>:<column>" if not column else "is given twice"
            raise UserError(f"COLUMNS={chosen}: {role} {reason}")
        columns[role] = column
    return columns


def _fitting(kind: str, columns: Collection[str]) -> list[str]:
    """The kinds of task of such a model that have these roles, likely ones first: with no others,
    or where none is named, with the most, for two texts and a label are no single text's."""
    tasks = [task for task in ANSWERS[kind] if task in COLUMNS]
    named = set(columns) - set(OPTIONAL)

    def order(task: str) -> tuple[bool, int]:
        roles = COLUMNS[task]
        return task in UNTAUGHT, len(set(roles) - named) if named else -len(roles)

    return sorted((task for task in tasks if named <= set(COLUMNS[task])), key=order)
