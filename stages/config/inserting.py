"""Text put into params.yaml where it belongs, every comment left as it is."""

import re
from collections.abc import Callable

from stages.config.reading import PARAMS
from stages.storage import atomic_file


def edit(change: Callable[[str], str], check: Callable[[], None]) -> None:
    """Write what `change` makes of params.yaml; where `check` then raises, it is as it was."""
    before = PARAMS.read_text(encoding="utf-8")
    _write(change(before))
    try:
        check()
    except BaseException:
        _write(before)
        raise


def _write(text: str) -> None:
    with atomic_file(PARAMS) as temporary:
        temporary.write_text(text, encoding="utf-8")


def insert(text: str, section: str, block: str) -> str:
    """`text` with `block` at the end of a top-level section, which is made where there is none.

    A blank line stands before a block of several lines.
    """
    block = block.rstrip("\n")
    lines = text.rstrip("\n").split("\n")
    starts = [place for place, line in enumerate(lines) if re.match(r"\w", line)]
    start = next((one for one in starts if lines[one].startswith(f"{section}:")), None)
    if start is None:
        return "\n".join([*lines, "", f"{section}:", block, ""])
    stop = next((one for one in starts if one > start), len(lines))
    # What stands before the next section, blank or at the margin, is that section's own.
    end = next(one for one in range(stop, start, -1) if lines[one - 1][:1] not in ("", "#"))
    apart = [""] if "\n" in block else []
    return "\n".join([*lines[:end], *apart, block, *lines[end:], ""])
