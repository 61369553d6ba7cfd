"""Where files lie, and how they are written whole or not at all."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stages.errors import REMEDIES, UserError, refusal


def cache_directory() -> Path:
    """The machine-wide cache of downloads: PALIMPSEST_CACHE, or ~/.cache/palimpsest."""
    given = os.environ.get("PALIMPSEST_CACHE")
    base = Path(given) if given else Path("~/.cache/palimpsest")
    return base.expanduser().absolute()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(full: int) -> int:
    """The mode that any new file gets: tempfile and safetensors make private ones."""
    mask = os.umask(0)
    os.umask(mask)
    return full & ~mask


@contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a file or folder against other processes; False where that cannot be had.

    The system lets go of it when the process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _locked(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        # Held by another process, or the file system has no locks.
        if error.errno not in (errno.EWOULDBLOCK, errno.EBADF, errno.ENOLCK, errno.ENOTSUP):
            raise
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear_leftovers(path: Path) -> None:
    """Remove temporary siblings of `path` whose process was killed: nobody holds them."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")
    for sibling in sorted(path.parent.iterdir()):
        if pattern.fullmatch(sibling.name):
            with _lock(sibling, wait=False) as dead:
                if dead:
                    _remove(sibling)


@contextmanager
def _sibling(path: Path, make: Callable[..., Path]) -> Iterator[Path]:
    """A temporary sibling of `path` that is gone afterwards, whatever happens.

    Raises UserError where the disk is full, read-only or forbidden.
    """
    try:
        with ExitStack() as held:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _lock(path.parent, wait=True):
                _clear_leftovers(path)
                temporary = make(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
                held.callback(_remove, temporary)
                held.enter_context(_lock(temporary, wait=False))
            yield temporary
    except UserError:
        raise
    except Exception as error:
        number = refusal(error)
        if number is None:
            raise
        raise UserError(
            f"{path}: cannot be written: {os.strerror(number).lower()}; {REMEDIES[number]}"
        ) from error


def _make_file(**place: Any) -> Path:
    descriptor, name = tempfile.mkstemp(**place)
    os.close(descriptor)
    return Path(name)


def _make_folder(**place: Any) -> Path:
    return Path(tempfile.mkdtemp(**place))


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds."""
    with _sibling(path, _make_file) as temporary:
        yield temporary
        _sync(temporary)
        temporary.chmod(_mode(0o666))
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary directory; rename it to `path` if the block succeeds.

    What stood at `path` before is replaced.
    """
    with _sibling(path, _make_folder) as room:
        # `room` stays where its lock is; what is renamed is a folder in it.
        temporary, old = room / "new", room / "old"
        temporary.mkdir()
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            _sync(entry)
            if entry.is_file():
                entry.chmod(_mode(0o666))
        _sync(temporary)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, in the order given; NaN and infinity are refused."""
    with atomic_file(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises UserError where there is no such file, or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error}); delete it and run `dvc repro`") from None


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hash(hashes: dict[str, str]) -> str:
    """The hash of a folder: over its sorted lines "<sha256 of file>  <relative path>"."""
    lines = sorted(f"{sha256}  {name}\n" for name, sha256 in hashes.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a folder by its relative path; hidden ones are left out."""
    paths = ((path, path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {
        name.as_posix(): sha256_file(path)
        for path, name in paths
        if not any(part.startswith(".") for part in name.parts)
    }


def sha256_path(path: Path) -> str:
    """Of a file, or of a folder: see tree_hash."""
    return tree_hash(hash_files(path)) if path.is_dir() else sha256_file(path)


def fingerprint(*parts: Any) -> str:
    """A hash of JSON-able parts: equal parts, equal fingerprint."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def content_id(*parts: Any) -> str:
    """The identity of an example: 16 hex digits of a hash over its JSON-able parts, in order."""
    return fingerprint(*parts)[:16]
