"""What base and runs were measured and trained with, and where they differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MEASURED_WITH = ("device", "dtype", "threads", "processor", "libraries")
"""What can change a figure."""


@dataclass(frozen=True)
class MadeWith:
    """`others`: who was made with another value, and which."""

    what: str
    value: str
    others: tuple[tuple[str, str], ...]


def unlike(base: Mapping[str, Any], run: Mapping[str, Any], name: str) -> list[str]:
    """A line for everything that base and run were measured with differently."""
    return [
        f"{name} was measured with another {key} than its base ({run[key]}, not {base[key]}): "
        "part of the change may be that"
        for key in MEASURED_WITH
        if base[key] != run[key]
    ]


def made_with(base: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[MadeWith]:
    """`others`: provenances by what they are of."""
    flat = {name: dict(_flat(told)) for name, told in others.items()}
    return [
        MadeWith(
            what,
            value,
            tuple((name, told[what]) for name, told in flat.items() if told[what] != value),
        )
        for what, value in _flat(base)
    ]


def _flat(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for what, value in sorted(provenance.items()):
        if isinstance(value, dict):
            yield from ((f"{name} (version)", str(version)) for name, version in value.items())
        else:
            yield what, str(value)
