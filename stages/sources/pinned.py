"""The door of this room: a source's name and its pin, to something that files are read from."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stages.errors import UserError


class Source(Protocol):
    """Files whose bytes are checked against a pin. Every method may raise UserError."""

    def names(self) -> list[str]:
        """The names of all files, sorted: `folder/file`, whatever the system.

        They are an archive's members, a repository's files, a folder's files relative to it,
        or a single file's own name.
        """

    def read(self, name: str) -> bytes:
        """The verified bytes of a file; `outer.tar.gz!inner` reaches into an archive."""

    def folder(self, prefix: str, names: Sequence[str]) -> Path:
        """A local directory that holds each `prefix/<name>` as `<name>`, verified.

        It belongs to the cache, or to the user: only read there.
        """

    def pin(self) -> dict[str, str]:
        """What a manifest has to say for `open_source` to give the same bytes again:
        `source`, and `sha256` or `revision`.
        """


def open_source(source: str, *, sha256: str | None = None, revision: str | None = None) -> Source:
    """Open `pypi:<name>==<version>`, `hf:<owner/name>`, `hf:datasets/<owner/name>`, `file:<path>`.

    `pypi:` and `file:` are pinned by `sha256`, `hf:` by `revision`, a commit. Raises UserError
    if the source is misspelt, not pinned, not what its pin says, or cannot be had.
    """
    scheme, _, spec = source.partition(":")
    if scheme not in ("pypi", "hf", "file") or not spec:
        raise UserError(f"{source}: unknown source; begin it with pypi:, hf: or file:")
    foreign = "sha256" if scheme == "hf" else "revision"
    if (sha256 if scheme == "hf" else revision) is not None:
        raise UserError(f"{source}: {foreign} does not apply to {scheme}: sources; remove it")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{source}: sha256 {sha256!r} is not 64 lower-case hex digits; correct it")

    # Imported here, so that a stage loads only the libraries of the sources it uses.
    if scheme == "pypi":
        from stages.sources.pypi import Release

        return Release(source, spec, sha256)
    if scheme == "hf":
        from stages.sources.hub import Repository

        return Repository(source, spec, revision)
    from stages.sources.local import Local

    return Local(source, spec, sha256)
