"""Names of files within a source: joined, split at `!`, and looked for when they are missing."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from stages.errors import UserError


def within(prefix: str, names: Sequence[str]) -> dict[str, str]:
    """Each name, and the whole name it has under `prefix`."""
    return {name: (PurePosixPath(prefix) / name).as_posix() for name in names}


def split(name: str, names: Collection[str]) -> tuple[str, str]:
    """`outer!inner` as a pair; a file that really has a `!` in its name stays whole."""
    if name in names:
        return name, ""
    outer, _, inner = name.partition("!")
    return outer, inner


def missing(label: str, name: str, names: Collection[str]) -> UserError:
    """The error for a name that is not there: it shows up to three names that are like it."""
    base = PurePosixPath(name).name
    namesakes = sorted(other for other in names if PurePosixPath(other).name == base)
    like = namesakes or difflib.get_close_matches(name, names, n=3) or sorted(names)
    shown = ", ".join(like[:3]) or "nothing"
    return UserError(f"{label}: no file {name!r}; of its {len(names)} files, look at: {shown}")
