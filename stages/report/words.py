"""Text from data, made fit to be shown: no control characters, no markup, not too long."""

import unicodedata

from markupsafe import Markup

TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of what follows them."""
UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}
MARKUP = "\\`*_[]<>|#&~"
LINKS = {"://": "\\://", "www.": "www\\."}
"""What GitHub would turn into a link by itself."""


def plain(text: str) -> str:
    """`text` with control characters, line breaks aside, as their escapes."""
    return escaped("\n".join(text.splitlines()).strip())


def escaped(text: str) -> str:
    return "".join(_escape(sign) if _unshown(sign) else sign for sign in text)


def finalize(value: object) -> object:
    """What a template shows: its texts without control characters, but for markup of our own."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _unshown(sign: str) -> bool:
    return sign != "\n" and (unicodedata.category(sign) in UNSHOWN or sign in TURNING)


def _escape(sign: str) -> str:
    code = ord(sign)
    return " " if sign == "\t" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def clipped(text: str, most: int) -> str:
    """`plain(text)`, of at most `most` characters."""
    shown = plain(text)
    return shown if len(shown) <= most else shown[: most - 1].rstrip() + "\u2026"


def cell(value: object) -> str:
    """A value as the text of one cell of a Markdown table: no markup, line break, new column."""
    text = " ".join(plain(str(value)).split())
    text = "".join(f"\\{sign}" if sign in MARKUP else sign for sign in text)
    for link, broken in LINKS.items():
        text = text.replace(link, broken)
    return text
