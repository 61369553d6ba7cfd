"""Tables of a data set of the hub, through prepare."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from faults_page import Fault
from hub_server import HubServer, Repo

from stages.errors import UserError
from stages.storage import read_json, sha256_path

COMMIT, SCRIPTED = "0123456789abcdef0123456789abcdef01234567", "f" * 40
SOURCE = "hf:datasets/acme/colors"
TABLE = "data/rows.jsonl"


@pytest.fixture
def hub(bench: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The target's table is a data set of the hub."""
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    content = (bench / tiny.OWN / f"{tiny.TARGET}.jsonl").read_bytes()
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        files = {TABLE: content, "tools/make.py": b"", "README.md": b""}
        server.repos["datasets/acme/colors"] = Repo(COMMIT, files)
        yield server


def use(project: Path, revision: str) -> None:
    params = tiny.read_params(project)
    data = params["tasks"][tiny.TARGET]["data"]
    del data["sha256"]
    data.update(source=SOURCE, revision=revision, files={"all": TABLE})
    tiny.write_params(project, params)


def test_its_rows_are_those_of_the_file(bench: Path, hub: HubServer) -> None:
    before = sha256_path(bench / f"data/{tiny.CASE}/target")
    use(bench, COMMIT)
    tiny.run_stage("prepare", tiny.CASE)
    assert sha256_path(bench / f"data/{tiny.CASE}/target") == before
    card = read_json(bench / f"metrics/cards/{tiny.CASE}.json")
    told = card["tasks"][tiny.TARGET]["data"]
    assert (told["source"], told["revision"]) == (SOURCE, COMMIT)
    assert not any("make.py" in request for request in hub.requests)


def test_a_script_is_refused(bench: Path, hub: HubServer, fault: Fault) -> None:
    repo = hub.repos["datasets/acme/colors"]
    script = b"open('was-run', 'w')\n"
    hub.repos["datasets/acme/colors"] = Repo(SCRIPTED, {**repo.files, "colors.py": script})
    use(bench, SCRIPTED)
    before = {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        tiny.run_stage("prepare", tiny.CASE)
    said = str(caught.value)
    assert said.startswith(f"{SOURCE}: holds a script (colors.py)")
    assert said.isprintable()
    assert {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()} == before
    # It is not even fetched.
    assert not any("resolve" in request and "colors.py" in request for request in hub.requests)
    fault("a data set of the hub with a script", "exit 1, one line; it is not fetched")
