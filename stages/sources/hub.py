"""`hf:<owner/name>` and `hf:datasets/<owner/name>`: a repository of the Hub at one commit."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,  # httpx's in version 1 of the library, httpx2's in version 2
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from stages.errors import UserError
from stages.sources.archive import Archive
from stages.sources.names import missing, split, within
from stages.storage import cache_directory, read_json, sha256_file, write_json

SPEC = re.compile(r"(datasets/)?([\w.-]+/[\w.-]+)", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


class Repository:
    """The files of a repository at a commit, checked against the hashes that its listing gives.

    The listing and each file are asked for once; from then on the cache serves them with no
    network. Every method raises UserError when the Hub cannot be reached or says no.
    """

    def __init__(self, source: str, spec: str, revision: str | None) -> None:
        match = SPEC.fullmatch(spec)
        if not match:
            raise UserError(f"{source}: write it as hf:<owner/name> or hf:datasets/<owner/name>")
        if revision is None or not COMMIT.fullmatch(revision):
            raise UserError(
                f"{source}: revision {revision!r} is no commit of 40 hex digits; copy one from "
                "the history of the repository's files"
            )
        self._source, self._revision = source, revision
        self._name, self._kind = match[2], "dataset" if match[1] else "model"
        # Given at each call, since the library reads the variable only when it is imported.
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        self._hashes = self._listing()

    def names(self) -> list[str]:
        return sorted(self._hashes)

    def read(self, name: str) -> bytes:
        outer, inner = split(name, self._hashes)
        path = self._verified(outer)
        return Archive(f"{self._source}!{outer}", path).read(inner) if inner else path.read_bytes()

    def folder(self, prefix: str, names: Sequence[str]) -> Path:
        paths = [(name, self._verified(full)) for name, full in within(prefix, names).items()]
        if not paths:
            raise UserError(f"{self._source}: no file of {prefix!r} was asked for; name one")
        name, path = paths[0]
        return path.parents[len(PurePosixPath(name).parts) - 1]

    def pin(self) -> dict[str, str]:
        return {"source": self._source, "revision": self._revision}

    def _listing(self) -> dict[str, str]:
        """Each file's sha256, or the git hash where the Hub knows no other."""
        cached = _listing_of(self._kind, self._name, self._revision)
        listing = _read_listing(cached)
        if listing is None:
            with self._told():
                tree = HfApi(endpoint=self._endpoint).list_repo_tree(
                    self._name, repo_type=self._kind, revision=self._revision, recursive=True
                )
                listing = {
                    file.path: file.lfs.sha256 if file.lfs else file.blob_id
                    for file in tree
                    if isinstance(file, RepoFile)
                }
            write_json(cached, listing)
        return listing

    def _verified(self, name: str) -> Path:
        if name not in self._hashes:
            raise missing(self._source, name, self._hashes)
        expected = self._hashes[name]
        # What was damaged in the cache is downloaded once more.
        for _ in range(2):
            with self._told():
                path = Path(
                    hf_hub_download(
                        self._name,
                        name,
                        repo_type=self._kind,
                        revision=self._revision,
                        cache_dir=cache_directory() / "hub",
                        endpoint=self._endpoint,
                    )
                )
            found = _hash_like(expected, path)
            if found == expected:
                return path
            path.resolve().unlink()
            path.unlink(missing_ok=True)
        raise UserError(
            f"{self._source}: {name} should have the hash {expected}, got {found}; it was "
            "removed: run again, or choose another revision"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        endpoint = self._endpoint or "the Hub"
        try:
            yield
        except GatedRepoError as error:
            raise UserError(
                f"{self._source}: the repository is gated; ask for access on its page, then set "
                "HF_TOKEN to a token of yours"
            ) from error
        except RevisionNotFoundError as error:
            raise UserError(
                f"{self._source}: {endpoint} has no revision {self._revision}; copy a commit "
                "from the history of the repository's files"
            ) from error
        except RepositoryNotFoundError as error:
            raise UserError(
                f"{self._source}: {endpoint} has no such repository, or hides it; check the "
                "name, and set HF_TOKEN if it is private"
            ) from error
        # Whatever else the library raises here came from the network or from the answer.
        except (HTTPError, OSError, EntryNotFoundError, ValueError, KeyError) as error:
            raise UserError(
                f"{self._source}: cannot be had from {endpoint} ({_first_line(error)}); check "
                "the network and HF_ENDPOINT, and run again"
            ) from error


def in_cache(source: str, revision: str) -> Iterator[tuple[str, Path, bool]]:
    """Each file of `hf:…` that is in the cache, where, and whether it is what its listing says.

    Needs no network; where the listing is not there, nothing is.
    """
    match = SPEC.fullmatch(source.removeprefix("hf:"))
    assert match, "params.yaml was checked"
    name, kind = match[2], "dataset" if match[1] else "model"
    for file, expected in (_read_listing(_listing_of(kind, name, revision)) or {}).items():
        found = try_to_load_from_cache(
            name, file, cache_dir=cache_directory() / "hub", revision=revision, repo_type=kind
        )
        if isinstance(found, str):
            yield file, Path(found), _hash_like(expected, Path(found)) == expected


def _listing_of(kind: str, name: str, revision: str) -> Path:
    return cache_directory() / "listings" / kind / name / f"{revision}.json"


def _read_listing(path: Path) -> dict[str, str] | None:
    """None where there is none, or it is damaged: then it is asked for again."""
    try:
        listing: dict[str, str] = read_json(path)
    except UserError:
        return None
    return listing


def _first_line(error: Exception) -> str:
    lines = str(error.__cause__ or error).split("\n")
    return next((line.strip(" .") for line in lines if line.strip()), type(error).__name__)


def _hash_like(expected: str, path: Path) -> str:
    return sha256_file(path) if len(expected) == 64 else _git_hash(path)


def _git_hash(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
