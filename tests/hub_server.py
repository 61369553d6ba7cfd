"""A Hub on loopback: the part of its HTTP API that lists and serves a repository's files."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2
"""Files a page of a listing holds: few, so that every test turns pages."""

TOKEN = "hf_good"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass
class Repo:
    revision: str
    files: dict[str, bytes]
    gated: bool = False
    served: dict[str, bytes] = field(default_factory=dict)
    """What is served instead of the bytes that the listing describes."""
    cut: int = 0
    """How many bytes are missing at the end of each download."""

    def is_large(self, name: str) -> bool:
        return name.endswith(".safetensors")

    def entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        entry = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
        if self.is_large(name):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return entry

    def etag(self, name: str) -> str:
        content = self.files[name]
        return hashlib.sha256(content).hexdigest() if self.is_large(name) else git_hash(content)


class HubServer:
    """Serves `repos`, keyed `models/<owner>/<name>` or `datasets/<owner>/<name>`.

    `requests` collects the path of each request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server_hub.requests.append(self.path)
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            if len(parts) < 5:
                raise _Refusal(404, "EntryNotFound")
            if parts[0] == "api":
                kind, owner, name, what, revision = parts[1:6]
                repo = self._repo(f"{kind}/{owner}/{name}", revision)
                if what == "tree":
                    self._tree(repo, int(parse_qs(url.query).get("cursor", ["0"])[0]))
                else:
                    files = [{"rfilename": path} for path in repo.files]
                    info = {"id": f"{owner}/{name}", "sha": revision, "siblings": files}
                    self._answer(200, json.dumps(info).encode(), {})
            else:
                kind = parts.pop(0) if parts[0] == "datasets" else "models"
                owner, name, _, revision, *path = parts
                self._file(self._repo(f"{kind}/{owner}/{name}", revision), "/".join(path))
        except _Refusal as refusal:
            self._answer(refusal.status, b"", {"X-Error-Code": refusal.code})

    def _repo(self, key: str, revision: str) -> Repo:
        repo = self.server_hub.repos.get(key)
        if repo is None:
            raise _Refusal(401, "RepoNotFound")
        if repo.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refusal(401, "GatedRepo")
        if repo.revision != revision:
            raise _Refusal(404, "RevisionNotFound")
        return repo

    def _tree(self, repo: Repo, start: int) -> None:
        folders = {name.rpartition("/")[0] for name in repo.files if "/" in name}
        entries = [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders]
        entries += [repo.entry(name) for name in repo.files]
        headers = {"Content-Type": "application/json"}
        if start + PAGE < len(entries):
            path = self.path.partition("?")[0]
            following = f"{self.server_hub.url}{path}?cursor={start + PAGE}"
            headers["Link"] = f'<{following}>; rel="next"'
        self._answer(200, json.dumps(entries[start : start + PAGE]).encode(), headers)

    def _file(self, repo: Repo, name: str) -> None:
        if name not in repo.files:
            raise _Refusal(404, "EntryNotFound")
        content = repo.served.get(name, repo.files[name])
        etag = f'"{repo.etag(name)}"'
        headers = {"X-Repo-Commit": repo.revision}
        if repo.is_large(name) and "localhost" not in self.headers["Host"]:
            # As the Hub does, large files are left to another host, which knows no commit.
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
            location = self.server_hub.url.replace("127.0.0.1", "localhost") + self.path
            self._answer(302, b"", {**headers, **linked, "Location": location})
        else:
            self._answer(200, content, {"ETag": etag, **headers}, repo.cut)

    def _answer(self, status: int, content: bytes, headers: dict[str, str], cut: int = 0) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) - cut])

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing: a test that fails says why itself."""
