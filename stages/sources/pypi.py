"""`pypi:<name>==<version>`: a wheel or sdist, read as an archive, never installed or built."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import requests
from packaging.version import InvalidVersion, Version
from pypi_simple import (
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from stages.errors import UserError
from stages.sources.archive import Archive
from stages.sources.download import TIMEOUT, Candidate, fetch, patiently, reason
from stages.sources.extracted import extracted
from stages.sources.names import within
from stages.sources.pip_settings import index_clients

SPEC = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!_-]+)")

SHOWN = 8
"""How many files of a release an error lists: some have a hundred."""


class Release:
    """One file of a release: its sha256 says which."""

    def __init__(self, source: str, spec: str, sha256: str | None) -> None:
        """Fetch the file unless the cache has it. Raises UserError if that fails."""
        match = SPEC.fullmatch(spec)
        if not match:
            raise UserError(f"{source}: write it as pypi:<name>==<version>")
        release = partial(_release, source, *match.groups())
        if sha256 is None:
            raise UserError(f"{source}: needs the sha256 of one of its files: {_listed(release())}")
        self._source, self._sha256 = source, sha256
        path = fetch(source, sha256, lambda: _candidates(source, release(), sha256))
        self._archive = Archive(source, path)

    def names(self) -> list[str]:
        return self._archive.names()

    def read(self, name: str) -> bytes:
        return self._archive.read(name)

    def folder(self, prefix: str, names: Sequence[str]) -> Path:
        return extracted(self._archive, self._sha256, within(prefix, names))

    def pin(self) -> dict[str, str]:
        return {"source": self._source, "sha256": self._sha256}


def _same(version: str | None, wanted: str) -> bool:
    try:
        return version is not None and Version(version) == Version(wanted)
    except InvalidVersion:
        return version == wanted


def _offered(source: str, client: PyPISimple, name: str, wanted: str) -> list[Candidate]:
    """The files of a release that one index has."""
    try:
        page = patiently(partial(client.get_project_page, name, timeout=TIMEOUT))
    except NoSuchProjectError:
        return []
    except (
        requests.RequestException,
        UnsupportedContentTypeError,
        UnsupportedRepoVersionError,
    ) as error:
        raise UserError(
            f"{source}: the index {client.endpoint} cannot be read ({reason(error)}); "
            "check the network, or the index that pip is configured with, and run again"
        ) from error
    return [(client, package) for package in page.packages if _same(package.version, wanted)]


def _release(source: str, name: str, version: str) -> list[Candidate]:
    """The files of a release, from all indexes."""
    clients = index_clients()
    files: list[Candidate] = []
    failures: list[UserError] = []
    for client in clients:
        try:
            files += _offered(source, client, name, version)
        except UserError as error:
            failures.append(error)
    # Like pip, do without an index that is down if another has the release.
    if not files and failures:
        raise failures[0]
    if not files:
        asked = ", ".join(client.endpoint for client in clients) or "no index on the network"
        raise UserError(
            f"{source}: no such release where pip is configured to look ({asked}); "
            "check the name and the version"
        )
    return files


def _listed(files: list[Candidate]) -> str:
    shown = [
        f"{package.digests.get('sha256', 'unknown')} ({package.filename})"
        for _, package in files[:SHOWN]
    ]
    more = len(files) - SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _candidates(source: str, files: list[Candidate], sha256: str) -> list[Candidate]:
    """The files that have this sha256, or failing that those of which the index tells none."""
    hashes = [package.digests.get("sha256") for _, package in files]
    chosen = [file for file, found in zip(files, hashes, strict=True) if found == sha256]
    unknown = [file for file, found in zip(files, hashes, strict=True) if found is None]
    if not chosen and not unknown:
        raise UserError(
            f"{source}: expected a file with sha256 {sha256}, got {_listed(files)}; "
            "put the sha256 of the file you want into params.yaml"
        )
    return chosen or unknown
