"""Members of an archive as files of a local directory, kept in the cache."""

from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from stages.sources.archive import Archive
from stages.storage import atomic_directory, cache_directory, fingerprint


def _holds(directory: Path, archive: Archive, members: Mapping[str, str]) -> bool:
    paths = directory.rglob("*")
    files = {path.relative_to(directory).as_posix() for path in paths if path.is_file()}
    return (
        directory.is_dir()
        and files == set(members)
        and all(archive.equals(member, directory / name) for name, member in members.items())
    )


def extracted(archive: Archive, sha256: str, members: Mapping[str, str]) -> Path:
    """A directory that holds each member under its name, and no other file.

    `members` maps the name in the directory to the name in the archive, whose own sha256
    names the place in the cache. What is there already is compared with the archive, and
    extracted again if it differs. Raises UserError for a member that is missing or damaged.
    """
    directory = cache_directory() / "extracted" / sha256 / fingerprint(dict(members))[:16]
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_suffix(".lock")):
        if not _holds(directory, archive, members):
            with atomic_directory(directory) as temporary:
                for name, member in members.items():
                    archive.extract(member, temporary / name)
    return directory
