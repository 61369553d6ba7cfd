import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_page import Fault
from hub_server import TOKEN, HubServer, Repo

from stages.errors import UserError
from stages.sources.pinned import Source, open_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 40


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # The library waits up to 23 seconds for a server that does not answer.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        files = {
            "config.json": b"{}",
            "model.safetensors": WEIGHTS,
            "onnx/config.json": b'{"onnx": true}',
            "data.zip": zipped({"train.csv": b"a,b\n"}),
            "Hello!.txt": b"!",
        }
        server.repos["models/acme/tiny"] = Repo(COMMIT, files)
        yield server


def tiny() -> Source:
    return open_source("hf:acme/tiny", revision=COMMIT)


def cached_files(tmp_path: Path, name: str) -> list[Path]:
    return [path for path in (tmp_path / "cache" / "hub").rglob(f"*{name}*") if path.is_file()]


def test_names_are_all_files_of_all_pages(hub: HubServer) -> None:
    names = ["Hello!.txt", "config.json", "data.zip", "model.safetensors", "onnx/config.json"]
    assert tiny().names() == names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{}"),
        ("onnx/config.json", b'{"onnx": true}'),
        ("model.safetensors", WEIGHTS),
        ("data.zip!train.csv", b"a,b\n"),
        ("Hello!.txt", b"!"),
    ],
)
def test_read(hub: HubServer, name: str, content: bytes) -> None:
    assert tiny().read(name) == content


def test_a_data_set_is_not_a_model(hub: HubServer) -> None:
    hub.repos["datasets/acme/tiny"] = Repo(COMMIT, {"train.csv": b"x\n"})
    source = open_source("hf:datasets/acme/tiny", revision=COMMIT)
    assert source.names() == ["train.csv"]
    assert source.read("train.csv") == b"x\n"
    assert "train.csv" not in tiny().names()


@pytest.mark.parametrize("prefix", ["", "."])
def test_folder_of_the_whole_repository(hub: HubServer, prefix: str) -> None:
    names = ["config.json", "model.safetensors", "onnx/config.json"]
    folder = tiny().folder(prefix, names)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "onnx" / "config.json").read_bytes() == b'{"onnx": true}'


def test_folder_under_a_prefix(hub: HubServer) -> None:
    folder = tiny().folder("onnx", ["config.json"])
    assert (folder / "config.json").read_bytes() == b'{"onnx": true}'


def test_a_folder_of_nothing_is_refused(hub: HubServer) -> None:
    with pytest.raises(UserError, match="name one"):
        tiny().folder("onnx", [])


def test_pin_opens_the_same_source(hub: HubServer) -> None:
    assert tiny().pin() == {"source": "hf:acme/tiny", "revision": COMMIT}


def test_what_is_cached_needs_no_network(hub: HubServer) -> None:
    before = tiny().folder("", ["config.json", "model.safetensors"])
    hub.stop()
    hub.requests.clear()
    source = tiny()
    assert "onnx/config.json" in source.names()
    assert source.folder("", ["config.json", "model.safetensors"]) == before
    assert source.read("model.safetensors") == WEIGHTS
    with pytest.raises(UserError, match=r"onnx|cannot be had"):
        source.read("onnx/config.json")
    assert hub.requests == []


def test_unreachable(hub: HubServer) -> None:
    hub.stop()
    with pytest.raises(UserError, match=rf"hf:acme/tiny: cannot be had from {hub.url}"):
        tiny()


def test_something_that_is_no_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/datasets/not/here")
    with pytest.raises(UserError, match="hf:acme/tiny"):
        tiny()


def test_no_such_repository(hub: HubServer) -> None:
    with pytest.raises(UserError, match=r"hf:acme/other: .* no such repository, or hides it"):
        open_source("hf:acme/other", revision=COMMIT)


def test_no_such_revision(hub: HubServer) -> None:
    with pytest.raises(UserError, match=f"no revision {'f' * 40}"):
        open_source("hf:acme/tiny", revision="f" * 40)


def test_gated_without_and_with_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["models/acme/tiny"].gated = True
    with pytest.raises(UserError, match=r"gated.*HF_TOKEN"):
        tiny()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert tiny().read("config.json") == b"{}"


def test_gated_files_of_an_open_listing(hub: HubServer) -> None:
    source = tiny()
    hub.repos["models/acme/tiny"].gated = True
    with pytest.raises(UserError, match=r"gated.*HF_TOKEN"):
        source.read("model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensor", "pytorch/model.safetensors"])
def test_a_missing_file_is_not_asked_for(hub: HubServer, name: str) -> None:
    source = tiny()
    hub.requests.clear()
    with pytest.raises(UserError, match=rf"no file '{name}'.*look at: model\.safetensors"):
        source.read(name)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_other_bytes_than_listed_are_removed(
    hub: HubServer, tmp_path: Path, name: str, fault: Fault
) -> None:
    repo = hub.repos["models/acme/tiny"]
    repo.served[name] = b"?" * len(repo.files[name])
    with pytest.raises(UserError, match=f"{name} should have the hash [0-9a-f]+, got [0-9a-f]+"):
        tiny().folder("", [name])
    assert cached_files(tmp_path, name) == []
    del repo.served[name]
    assert tiny().read(name) == repo.files[name]
    fault("a file of the hub that is not what its listing says", "exit 1, one line; it is removed")


def test_a_truncated_download_leaves_nothing(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repos["models/acme/tiny"]
    source = tiny()
    repo.cut = 100
    with pytest.raises(UserError, match="hf:acme/tiny: cannot be had"):
        source.read("model.safetensors")
    assert cached_files(tmp_path, "model.safetensors") == []
    repo.cut = 0
    assert source.read("model.safetensors") == WEIGHTS


def test_a_damaged_cached_file_is_fetched_again(hub: HubServer, fault: Fault) -> None:
    source = tiny()
    path = source.folder("", ["model.safetensors"]) / "model.safetensors"
    path.resolve().write_bytes(b"damaged")
    assert source.read("model.safetensors") == WEIGHTS
    assert path.read_bytes() == WEIGHTS
    fault("a damaged file of the hub in the cache", "fetched again")


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_only_a_commit_pins(hub: HubServer, revision: str | None) -> None:
    with pytest.raises(UserError, match="no commit of 40 hex digits"):
        open_source("hf:acme/tiny", revision=revision)
    assert hub.requests == []


@pytest.mark.parametrize("spec", ["tiny", "acme/tiny/more", "spaces/acme/tiny", "acme/ti ny", "/x"])
def test_a_misspelt_repository(hub: HubServer, spec: str) -> None:
    with pytest.raises(UserError, match="write it as hf:<owner/name>"):
        open_source(f"hf:{spec}", revision=COMMIT)
    assert hub.requests == []


def test_a_name_that_the_library_refuses(hub: HubServer) -> None:
    with pytest.raises(UserError, match=r"hf:acme/\.\.tiny"):
        open_source("hf:acme/..tiny", revision=COMMIT)
