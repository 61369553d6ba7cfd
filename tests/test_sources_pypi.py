import base64
import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from faults_page import Fault

from stages.errors import UserError
from stages.sources import pip_settings
from stages.sources.pinned import open_source

read_configuration = pip_settings._configured.__wrapped__

NESTED = "toy-1.0/data/in.tar.gz!in/rows.txt"


def release() -> bytes:
    """An sdist zip with an archive in it, the same bytes each time."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        member = tarfile.TarInfo("in/rows.txt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"rows"))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as zipped:
        stamp = (2020, 1, 1, 0, 0, 0)
        zipped.writestr(zipfile.ZipInfo("toy-1.0/data/in.tar.gz", stamp), inner.getvalue())
        zipped.writestr(zipfile.ZipInfo("toy-1.0/a.txt", stamp), b"a" * 50_000)
    return outer.getvalue()


RELEASE = release()
SHA256 = hashlib.sha256(RELEASE).hexdigest()


class Index:
    """A Simple index on loopback, with the projects `toy` and `other`; a test bends it."""

    def __init__(self) -> None:
        self.files = {
            "toy-1.0.zip": RELEASE,
            "toy-0.9.zip": b"old",
            "toy-1.0-py3-none-any.whl": b"w",
        }
        self.as_json = True
        self.with_hashes = True
        self.statuses: list[int] = []
        """Statuses of the next answers, before it answers truly."""
        self.cuts: list[int] = []
        """How many bytes lack at the end of the next downloads."""
        self.credentials = ""
        self.delay = 0.0
        self.requests: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append(self.path)
                index.answer(self)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                """Nothing: a test that fails says why itself."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def downloads(self) -> list[str]:
        return [path for path in self.requests if path.startswith("/files/")]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and handler.headers.get("Authorization") != f"Basic {wanted}":
            handler.send_error(401)
        elif self.statuses:
            handler.send_error(self.statuses.pop(0))
        elif handler.path == "/simple/toy/":
            kind, page = self.page()
            handler.send_response(200)
            handler.send_header("Content-Type", kind)
            handler.end_headers()
            handler.wfile.write(page.encode())
        elif handler.path.startswith("/files/"):
            time.sleep(self.delay)
            content = self.files[handler.path.removeprefix("/files/")]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[: len(content) - (self.cuts.pop(0) if self.cuts else 0)])
        else:
            handler.send_error(404)

    def page(self) -> tuple[str, str]:
        hashes = {
            name: {"sha256": hashlib.sha256(content).hexdigest()} if self.with_hashes else {}
            for name, content in self.files.items()
        }
        if self.as_json:
            files = [
                {"filename": name, "url": f"/files/{name}", "hashes": hashes[name]}
                for name in self.files
            ]
            page = {"meta": {"api-version": "1.0"}, "name": "toy", "files": files}
            return "application/vnd.pypi.simple.v1+json", json.dumps(page)
        links = [
            f'<a href="../../files/{name}{"".join(f"#{k}={v}" for k, v in hashes[name].items())}">'
            f"{name}</a>"
            for name in self.files
        ]
        return "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple/")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setattr(pip_settings, "_configured", lambda: {})
    monkeypatch.setattr("stages.sources.download.PAUSES", (0.0, 0.0))
    yield index
    index.stop()


def kept(cache: Path) -> list[Path]:
    paths = (cache / "downloads").rglob("*")
    return [path for path in paths if path.suffix != ".lock"]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "html"])
@pytest.mark.parametrize("with_hashes", [True, False], ids=["hashes", "no-hashes"])
@pytest.mark.parametrize("spec", ["toy==1.0", "Toy==1.0.0", "toy==1"])
def test_a_release_is_read(index: Index, as_json: bool, with_hashes: bool, spec: str) -> None:
    index.as_json, index.with_hashes = as_json, with_hashes
    source = open_source(f"pypi:{spec}", sha256=SHA256)
    assert source.names() == ["toy-1.0/a.txt", "toy-1.0/data/in.tar.gz"]
    assert source.read(NESTED) == b"rows"
    assert source.pin() == {"source": f"pypi:{spec}", "sha256": SHA256}
    assert "/files/toy-0.9.zip" not in index.requests
    if with_hashes:
        assert index.downloads() == ["/files/toy-1.0.zip"]


def test_a_folder(index: Index) -> None:
    source = open_source("pypi:toy==1.0", sha256=SHA256)
    folder = source.folder("toy-1.0", ["a.txt", "data/in.tar.gz"])
    assert (folder / "a.txt").read_bytes() == b"a" * 50_000
    assert source.folder("toy-1.0", ["a.txt", "data/in.tar.gz"]) == folder
    rows = source.folder("toy-1.0/data/in.tar.gz!in", ["rows.txt"]) / "rows.txt"
    assert rows.read_bytes() == b"rows"
    with pytest.raises(UserError, match=r"pypi:toy==1\.0: no file 'toy-1\.0/\.\./a\.txt'"):
        source.folder("toy-1.0", ["../a.txt"])


def test_what_is_cached_needs_no_network(index: Index) -> None:
    open_source("pypi:toy==1.0", sha256=SHA256)
    index.stop()
    index.requests.clear()
    assert open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED) == b"rows"
    assert index.requests == []


@pytest.mark.parametrize("damaged", [b"", RELEASE[:-1], RELEASE + b"x"])
def test_a_damaged_cached_file_is_fetched_again(
    index: Index, cache: Path, damaged: bytes, fault: Fault
) -> None:
    open_source("pypi:toy==1.0", sha256=SHA256)
    path = cache / "downloads" / SHA256 / "toy-1.0.zip"
    path.write_bytes(damaged)
    assert open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED) == b"rows"
    assert path.read_bytes() == RELEASE
    fault("a damaged release in the cache", "fetched again")


def test_what_a_killed_process_left_is_removed(index: Index, cache: Path) -> None:
    (cache / "downloads" / SHA256).mkdir(parents=True)
    (cache / "downloads" / SHA256 / ".toy-1.0.zip.abc").write_bytes(RELEASE[:100])
    open_source("pypi:toy==1.0", sha256=SHA256)
    assert [path.name for path in (cache / "downloads" / SHA256).iterdir()] == ["toy-1.0.zip"]


def test_no_pin_says_which_there_are(index: Index, cache: Path) -> None:
    with pytest.raises(
        UserError, match=rf"needs the sha256 .*{SHA256} \(toy-1\.0\.zip\), [0-9a-f]"
    ):
        open_source("pypi:toy==1.0")
    assert index.downloads() == []


def test_a_pin_of_no_file(index: Index, cache: Path) -> None:
    with pytest.raises(UserError, match=rf"expected .*{'0' * 64}, got {SHA256} \(toy-1\.0\.zip\)"):
        open_source("pypi:toy==1.0", sha256="0" * 64)
    assert index.downloads() == []
    assert kept(cache) == []


def test_a_pin_of_no_file_where_the_index_has_no_hashes(index: Index, cache: Path) -> None:
    index.with_hashes = False
    with pytest.raises(UserError, match=rf"expected .*{'0' * 64}, got {SHA256} \(toy-1\.0\.zip\)"):
        open_source("pypi:toy==1.0", sha256="0" * 64)
    assert kept(cache) == []


def test_other_bytes_than_the_index_promised(
    index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, page = index.page()
    monkeypatch.setattr(index, "page", lambda: (kind, page))
    index.files["toy-1.0.zip"] = b"evil"
    got = hashlib.sha256(b"evil").hexdigest()
    with pytest.raises(UserError, match=rf"expected .*{SHA256}, got {got} .*it was removed"):
        open_source("pypi:toy==1.0", sha256=SHA256)
    assert kept(cache) == []


def test_transient_failures_are_tried_again(index: Index) -> None:
    index.statuses, index.cuts = [503, 429], [1, 20_000]
    assert open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED) == b"rows"
    assert index.downloads() == ["/files/toy-1.0.zip"] * 3


def test_a_download_that_is_always_truncated(index: Index, cache: Path) -> None:
    index.cuts = [1] * 9
    with pytest.raises(UserError, match=rf"{index.url}/files/toy-1\.0\.zip cannot be downloaded"):
        open_source("pypi:toy==1.0", sha256=SHA256)
    assert len(index.downloads()) == 3
    assert kept(cache) == []


def test_a_refusal_is_not_tried_again(index: Index, cache: Path) -> None:
    index.statuses = [403] * 9
    with pytest.raises(UserError, match=r"cannot be read \(HTTP 403\)"):
        open_source("pypi:toy==1.0", sha256=SHA256)
    assert len(index.requests) == 1
    assert kept(cache) == []


def test_an_unreachable_index(index: Index, cache: Path) -> None:
    index.stop()
    with pytest.raises(UserError, match=rf"the index {index.url}/simple/ cannot be read"):
        open_source("pypi:toy==1.0", sha256=SHA256)
    assert kept(cache) == []


@pytest.mark.parametrize("spec", ["toy==2.0", "gone==1.0"])
def test_no_such_release(index: Index, cache: Path, spec: str) -> None:
    with pytest.raises(UserError, match=rf"pypi:{spec}: no such release .*{index.url}/simple/"):
        open_source(f"pypi:{spec}", sha256=SHA256)
    assert kept(cache) == []


def test_a_release_that_is_no_archive(index: Index) -> None:
    sha256 = hashlib.sha256(b"w").hexdigest()
    with pytest.raises(UserError, match="cannot be read as a zip or tar archive"):
        open_source("pypi:toy==1.0", sha256=sha256)


def test_extra_indexes(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///nowhere  {index.url}/simple")
    assert open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED) == b"rows"


def test_no_index_on_the_network(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    with pytest.raises(UserError, match="no index on the network"):
        open_source("pypi:toy==1.0", sha256=SHA256)


def test_credentials_are_sent_and_never_shown(
    index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.credentials = "me:s@cret"
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple".replace("//", "//me:s%40cret@"))
    assert open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED) == b"rows"
    with pytest.raises(UserError) as caught:
        open_source("pypi:toy==2.0", sha256="0" * 64)
    assert "cret" not in str(caught.value)
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple".replace("//", "//me:wrong@"))
    with pytest.raises(UserError, match="HTTP 401") as caught:
        open_source("pypi:toy==1.0", sha256="0" * 64)
    assert "wrong" not in str(caught.value)


def test_credentials_go_to_their_own_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setattr(pip_settings, "_configured", lambda: {})
    [client] = pip_settings.index_clients()
    assert client.endpoint == "http://127.0.0.1:9/simple/"
    for url, sent in [("http://127.0.0.1:9/f.zip", True), ("http://127.0.0.2:9/f.zip", False)]:
        request = client.s.prepare_request(requests.Request("GET", url))
        assert ("Authorization" in request.headers) is sent


def test_configuration_files_of_pip(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        f"[global]\nindex-url = http://127.0.0.1:9/global\ncert = {tmp_path}/ca.pem\n"
        f"[install]\nindex-url = {index.url}/simple\n"
        "extra-index-url =\n    http://127.0.0.1:9/one\n    http://127.0.0.1:9/two\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pip_settings, "_configured", read_configuration)
    clients = pip_settings.index_clients()
    endpoints = [client.endpoint.removeprefix("http://127.0.0.1:9/") for client in clients]
    assert endpoints == [f"{index.url}/simple/", "one/", "two/"]
    assert clients[0].s.verify == f"{tmp_path}/ca.pem"


def open_in_a_process(cache: str, url: str) -> bytes:
    os.environ.update(PALIMPSEST_CACHE=cache, PIP_INDEX_URL=url, PIP_CONFIG_FILE=os.devnull)
    return open_source("pypi:toy==1.0", sha256=SHA256).read(NESTED)


def test_two_processes_at_once_share_one_download(index: Index, cache: Path) -> None:
    index.delay = 0.5
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        calls = [(str(cache), f"{index.url}/simple/")] * 2
        assert pool.starmap(open_in_a_process, calls, chunksize=1) == [b"rows", b"rows"]
    assert index.downloads() == ["/files/toy-1.0.zip"]
