"""Sound bytes, damaged: what a fuzz feeds to a reader."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stages.errors import UserError

Read = TypeVar("Read")
OUTCOME = "{} damaged files: each read, or refused in one line; nothing written"
ODD = [
    *(b"", b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b"'", b",", b"\n", b"\r\n", b"{", b"}", b"["),
    *(b"]", b"\\ud800", b"\\u0000", b"\xe2\x80\xae", b"NaN", b"1e999", b"-1", b"null", b"&a"),
    *(b"*a", b"!!python/name:os.system", b"\xff\xff\xff\x7f", b"\0\0\0\x80"),
    *(b"[" * 2000, b"9" * 5000),
]
"""What readers stumble over."""


def fuzz(examples: int) -> settings:
    """Files are written over from one example to the next: a fixture's folder serves all."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """One of `sound` after a few cuts, insertions, repetitions and flips; or bytes at random."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 8, 64, 10**9])))
        part = content[start:end]
        new = draw(
            st.sampled_from([*ODD, part * 2, part[::-1]])
            | st.binary(min_size=len(part), max_size=min(len(part), 8) or 8)
            if len(part) <= 8
            else st.sampled_from([*ODD, part * 2, part[::-1]])
        )
        content = content[:start] + new + content[end:]
    return content


def told(read: Callable[[], Read]) -> Read | None:
    """What `read` returns; None where it refuses, in one line."""
    try:
        return read()
    except UserError as error:
        said = str(error)
        assert said.isprintable(), said
        return None
