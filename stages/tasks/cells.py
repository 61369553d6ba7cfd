"""What a cell of a user's table may hold."""

import re
from typing import Any

LONGEST = 1_000_000
"""Characters of a cell: the longest document that is still one example."""
REFUSED = re.compile("[\0\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""NUL, signs that turn the direction of the text around them, and halves of surrogate pairs.

Right-to-left and left-to-right marks stay: Hebrew and Arabic need them.
"""


class WrongCellError(Exception):
    """`row` counts from 1 without the header; 0 where it is no single row's affair."""

    def __init__(self, row: int, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.row, self.column, self.reason = row, column, reason

    def __str__(self) -> str:
        """As it follows the name of a file: `, row 2, column 'text': is empty`."""
        row = f", row {self.row}" if self.row else ""
        column = "" if self.column is None else f", column {self.column!r}"
        return f"{row}{column}: {self.reason}"


def text_of(value: Any, row: int, column: str) -> str:
    """A cell as text: numbers and truth values are written out.

    Raises WrongCellError where it is empty, no single value, too long or refused.
    """
    if value is None:
        raise WrongCellError(row, column, "is empty")
    if not isinstance(value, str | int | float):
        raise WrongCellError(row, column, f"holds a {type(value).__name__}: give text")
    if isinstance(value, float) and value != value:
        raise WrongCellError(row, column, "is not a number (NaN)")
    text = str(value)
    if len(text) > LONGEST:
        raise WrongCellError(
            row, column, f"{len(text)} characters, more than {LONGEST}: cut it or split it"
        )
    if found := REFUSED.search(text):
        raise WrongCellError(row, column, _refusal(found[0], found.start()))
    return text


def _refusal(sign: str, at: int) -> str:
    code = ord(sign)
    if sign == "\0":
        return f"holds a NUL (character {at + 1}): remove it"
    if 0xDC80 <= code <= 0xDCFF:  # where bytes that are no UTF-8 end up: see table_files.py
        return f"is not UTF-8 (byte 0x{code - 0xDC00:02x}, character {at + 1}): convert the file"
    if 0xD800 <= code <= 0xDFFF:
        return f"holds half of a surrogate pair (character {at + 1}): repair it"
    return f"holds the text-turning control U+{code:04X} (character {at + 1}): remove it"
