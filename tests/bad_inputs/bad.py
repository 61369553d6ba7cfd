"""A bad input: what is spoiled in a tiny project, and the line that a stage then says."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Bad:
    """`spoil` is given the project's folder; `said` is a pattern for the whole of the one line.

    `stage`: its module and arguments.
    """

    name: str
    spoil: Spoil
    said: str
    stage: tuple[str, ...] = ("prepare", tiny.CASE)

    def __str__(self) -> str:
        return self.name


def rows_of(project: Path, task: str = tiny.TARGET) -> list[dict[str, Any]]:
    text = (project / tiny.OWN / f"{task}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def use(project: Path, name: str, content: bytes, task: str = tiny.TARGET, **data: Any) -> None:
    """Let a task's table be this file."""
    (project / tiny.OWN / name).write_bytes(content)
    params = tiny.read_params(project)
    told = params["tasks"][task]["data"]
    told.update(tiny.pinned(project, f"{tiny.OWN}/{name}"), **data)
    tiny.write_params(project, params)


def words(*parts: str) -> str:
    """A pattern: each part as it stands, anything between them."""
    return ".*".join(re.escape(part) for part in parts)
