"""`file:<path>`: a file or folder of the user's own, pinned by its hash."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from stages.errors import UserError
from stages.sources.archive import Archive
from stages.sources.names import missing, split, within
from stages.storage import hash_files, sha256_file, tree_hash


class Local:
    """A file, or the files of a folder, as they were when the source was opened.

    Hidden files, and those in hidden folders, are left out.
    """

    def __init__(self, source: str, spec: str, sha256: str | None) -> None:
        """Hash what is there. Raises UserError if it is absent, or not what `sha256` says."""
        path = Path(spec)
        if not path.exists():
            raise UserError(
                f"{source}: no such file or folder; correct the path ({path.absolute()})"
            )
        self._source = source
        if path.is_dir():
            self._root = path
            self._hashes = hash_files(path)
            self._sha256 = tree_hash(self._hashes)
        else:
            self._root = path.parent
            self._sha256 = sha256_file(path)
            self._hashes = {path.name: self._sha256}
        if self._sha256 != sha256:
            pinned = f"expected sha256 {sha256}, got" if sha256 else "needs its sha256:"
            raise UserError(
                f"{source}: {pinned} {self._sha256}; if these are the bytes you want, put that "
                "into params.yaml"
            )

    def names(self) -> list[str]:
        return sorted(self._hashes)

    def read(self, name: str) -> bytes:
        outer, inner = split(name, self._hashes)
        content = self._path(outer).read_bytes()
        if hashlib.sha256(content).hexdigest() != self._hashes[outer]:
            raise UserError(f"{self._source}: {outer} has changed since it was checked; run again")
        if inner:
            return Archive(f"{self._source}!{outer}", io.BytesIO(content)).read(inner)
        return content

    def folder(self, prefix: str, names: Sequence[str]) -> Path:
        for full in within(prefix, names).values():
            self._path(full)
        return self._root / prefix

    def pin(self) -> dict[str, str]:
        return {"source": self._source, "sha256": self._sha256}

    def _path(self, name: str) -> Path:
        if name not in self._hashes:
            raise missing(self._source, name, self._hashes)
        return self._root / name
