"""What base and runs were measured and trained with, and where they differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MEASURED_WITH = ("device", "dtype", "threads", "processor", "libraries", "inputs")
"""What can change a figure."""


@dataclass(frozen=True)
class MadeWith:
    """`others`: who was made with another value, and which."""

    what: str
    value: str
    others: tuple[tuple[str, str], ...]


def unlike(
    base: Mapping[str, Any], run: Mapping[str, Any], name: str, other: str = "its base"
) -> list[str]:
    """A line for everything that `other` and `name` were measured with differently."""
    before, after = (
        dict(_flat({key: told.get(key) for key in MEASURED_WITH})) for told in (base, run)
    )
    return [
        f"{name} was measured with another {what} than {other} ({after.get(what, 'none')}, not "
        f"{value}): part of the change may be that"
        for what, value in before.items()
        if after.get(what) != value
    ]


def made_with(base: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[MadeWith]:
    """`others`: provenances by what they are of."""
    flat = {name: dict(_flat(told)) for name, told in others.items()}
    of_base = dict(_flat(base))
    return [
        MadeWith(
            what,
            of_base.get(what, "-"),
            tuple(
                (name, told[what])
                for name, told in flat.items()
                if what in told and told[what] != of_base.get(what)
            ),
        )
        for what in dict.fromkeys([*of_base, *(what for told in flat.values() for what in told)])
    ]


def _flat(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each library by its own name."""
    for what, value in sorted(provenance.items()):
        if isinstance(value, dict):
            yield from ((name, str(version)) for name, version in sorted(value.items()))
        else:
            yield what, str(value)
