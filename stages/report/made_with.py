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
    before, after = (dict(_flat({key: told[key] for key in MEASURED_WITH})) for told in (base, run))
    return [
        f"{name} was measured with another {what} than its base ({after.get(what, 'none')}, not "
        f"{value}): part of the change may be that"
        for what, value in before.items()
        if after.get(what) != value
    ]


def made_with(base: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[MadeWith]:
    """`others`: provenances by what they are of."""
    flat = {name: dict(_flat(told)) for name, told in others.items()}
    return [
        MadeWith(
            what,
            value,
            tuple(
                (name, told.get(what, "none"))
                for name, told in flat.items()
                if told.get(what) != value
            ),
        )
        for what, value in _flat(base)
    ]


def _flat(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each library by its own name."""
    for what, value in sorted(provenance.items()):
        if isinstance(value, dict):
            yield from ((name, str(version)) for name, version in sorted(value.items()))
        else:
            yield what, str(value)
