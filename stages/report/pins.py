"""Where a case's data and model come from, and by what they are pinned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PINS = ("revision", "sha256")


@dataclass(frozen=True)
class Pinned:
    """`settings`: what else params.yaml says of it."""

    source: str
    pin: str
    settings: str


@dataclass(frozen=True)
class DataRow:
    """`cut`: test texts longer than what the model reads; the last two: train rows taken out."""

    task: str
    kind: str
    origin: Pinned
    train: int
    validation: int
    test: int
    cut: int
    duplicates: int
    ambiguous: int
    exact: int
    overlapping: int


def data_rows(card: Mapping[str, Any], cut: Mapping[str, int]) -> Iterator[DataRow]:
    """`cut`: by task."""
    for task, told in card["tasks"].items():
        removed = told["overlap_removed"]
        yield DataRow(
            task=task,
            kind=told["kind"],
            origin=pinned(told["data"]),
            **told["rows"],
            cut=cut[task],
            duplicates=told["duplicates"],
            ambiguous=told["ambiguous"],
            exact=removed["exact"],
            overlapping=removed["13-gram"],
        )


def pinned(told: Mapping[str, Any]) -> Pinned:
    """What has no source of its own is named by its reader."""
    known = {"source", "reader", "files", *PINS}
    return Pinned(
        source=str(told.get("source") or told.get("reader", "-")),
        pin=next((str(told[pin]) for pin in PINS if told.get(pin)), "-"),
        settings=", ".join(f"{key}: {value}" for key, value in told.items() if key not in known),
    )
