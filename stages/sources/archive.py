"""The members of a zip or tar archive, and of archives within it, read without trusting them."""

import io
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from stages.errors import UserError, one_line
from stages.sources.names import missing, split

LARGEST = 20 * 2**30
"""An archive that unfolds to more bytes than this is refused."""

RATIO = 200
"""So is one that unfolds to more than this many times its own size …"""

SMALL = 64 * 2**20
"""… unless that is few bytes anyway."""

CHUNK = 2**20

UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    # Of damaged headers: offsets and sizes that nothing has checked.
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
)

Opener = Callable[[], IO[bytes] | None]


class Archive:
    """A zip or tar archive. Only regular files with plain relative names are seen.

    Links, devices, absolute names and names with `..` are passed over, as if they were not
    there. `outer!inner` names a member of an archive that is itself a member.
    """

    def __init__(self, label: str, file: Path | IO[bytes]) -> None:
        """Open `file`; `label` is what errors call it.

        Raises UserError if it is no readable archive, or would unfold beyond all bounds.
        """
        self._label = label
        self._inner: dict[str, Archive] = {}
        stream = file.open("rb") if isinstance(file, Path) else file
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        zipped = stream.read(2) == b"PK"
        stream.seek(0)
        self._members: dict[str, Opener] = {}
        unfolded = 0
        with self._told():
            for name, length, opener in (_zip_members if zipped else _tar_members)(stream):
                # Checked member by member: merely to list a tar unfolds what was listed so far.
                unfolded += length
                self._refuse_bomb(unfolded, size)
                if opener and _is_plain(name):
                    self._members[PurePosixPath(name).as_posix()] = opener

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises UserError if it is missing or damaged."""
        content = io.BytesIO()
        with self._opened(name) as member:
            _copy(member, content)
        return content.getvalue()

    def extract(self, name: str, target: Path) -> None:
        """Write a member to the path `target`. Raises UserError if it is missing or damaged."""
        with self._opened(name) as member:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as content:
                _copy(member, content)

    def equals(self, name: str, path: Path) -> bool:
        """Whether the file at `path` holds exactly the bytes of the member."""
        with self._opened(name) as member, path.open("rb") as file:
            while True:
                # Only a member may return fewer bytes than it was asked for.
                chunk = member.read(CHUNK)
                if chunk != file.read(len(chunk) or 1):
                    return False
                if not chunk:
                    return True

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        outer, inner = split(name, self._members)
        if outer not in self._members:
            raise missing(self._label, name, self._members)
        if inner:
            if outer not in self._inner:
                self._inner[outer] = Archive(f"{self._label}!{outer}", io.BytesIO(self.read(outer)))
            with self._inner[outer]._opened(inner) as member:
                yield member
            return
        with self._told():
            opened = self._members[outer]()
            assert opened is not None, "links were passed over"
            with opened as member:
                yield member

    def _refuse_bomb(self, unfolded: int, size: int) -> None:
        if unfolded > min(LARGEST, max(SMALL, RATIO * size)):
            raise UserError(
                f"{self._label}: its {size} bytes would unfold to {unfolded} or more, beyond "
                f"{RATIO} times the size or {LARGEST}; if you trust it, unpack it and use file:"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            # A damaged stream has no errno; a full disk has.
            if isinstance(error, OSError) and error.errno:
                raise
            reason = " ".join(str(error).split())
            raise UserError(
                one_line(
                    f"{self._label}: cannot be read as a zip or tar archive ({reason}); name a "
                    "source that is one"
                )
            ) from error


def _copy(member: IO[bytes], target: IO[bytes]) -> None:
    # In chunks: a zip member that lies about its size is then cut off, never unfolded whole.
    shutil.copyfileobj(member, target, CHUNK)


def _is_plain(name: str) -> bool:
    # Windows rules know both kinds of slash, and drives.
    path = PureWindowsPath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _zip_members(stream: IO[bytes]) -> Iterator[tuple[str, int, Opener | None]]:
    archive = zipfile.ZipFile(stream)
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        regular = not info.is_dir() and kind in (0, stat.S_IFREG)
        yield info.filename, info.file_size, partial(archive.open, info) if regular else None


def _tar_members(stream: IO[bytes]) -> Iterator[tuple[str, int, Opener | None]]:
    archive = tarfile.open(fileobj=stream)  # noqa: SIM115
    for member in archive:
        opener = partial(archive.extractfile, member) if member.isreg() else None
        yield member.name, member.size, opener
