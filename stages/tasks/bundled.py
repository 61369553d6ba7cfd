"""Files of the bundled data sets: one that is not what its reader knows is told in one line."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

import yaml

from stages.errors import UserError, one_line
from stages.sources.archive import LARGEST, RATIO, SMALL
from stages.sources.pinned import Source

MISREAD = (
    gzip.BadGzipFile,
    ParseError,
    yaml.YAMLError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What parsing raises over other bytes."""


@contextmanager
def opened(source: Source, name: str) -> Iterator[bytes]:
    """The bytes of a file of a bundled data set, to be parsed in the block.

    Raises UserError where the block fails over them.
    """
    content = source.read(name)
    try:
        yield content
    except MISREAD as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            one_line(
                f"{source.pin()['source']}: {name}: not what its reader knows ({reason}); take the "
                "release and the sha256 that the README names, or reader: table"
            )
        ) from error


def sound(text: str) -> str:
    """`text`. Raises ValueError where it holds half of a surrogate pair, as JSON may say it."""
    text.encode()
    return text


def unzipped(content: bytes) -> bytes:
    """What a gzip file holds. Raises ValueError beyond the limits of archives."""
    most = min(LARGEST, max(SMALL, RATIO * len(content)))
    with gzip.open(io.BytesIO(content)) as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise ValueError(f"its {len(content)} bytes would unfold to more than {most}")
    return found
