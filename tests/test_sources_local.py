import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from stages.errors import UserError
from stages.sources.pinned import open_source


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.csv").write_bytes(b"b\n")
    (folder / "sub" / "a.csv").write_bytes(b"a\n")
    (folder / "Hello!.txt").write_bytes(b"!")
    return folder


def actual(source: str) -> str:
    """What the error for a source without a pin says it should be."""
    with pytest.raises(UserError, match=r"needs its sha256: [0-9a-f]{64};") as caught:
        open_source(source)
    return str(caught.value).partition("needs its sha256: ")[2][:64]


def test_a_file(folder: Path) -> None:
    source = open_source(f"file:{folder}/b.csv", sha256=sha256(b"b\n"))
    assert source.names() == ["b.csv"]
    assert source.read("b.csv") == b"b\n"
    assert source.folder("", ["b.csv"]) == folder
    assert source.pin() == {"source": f"file:{folder}/b.csv", "sha256": sha256(b"b\n")}


def test_a_folder(folder: Path) -> None:
    source = open_source(f"file:{folder}", sha256=actual(f"file:{folder}"))
    assert source.names() == ["Hello!.txt", "b.csv", "sub/a.csv"]
    assert source.read("sub/a.csv") == b"a\n"
    assert source.read("Hello!.txt") == b"!"
    assert source.folder("", ["b.csv", "sub/a.csv"]) == folder
    assert source.folder("sub", ["a.csv"]) == folder / "sub"


def test_the_hash_of_a_folder_is_what_the_page_says(folder: Path) -> None:
    lines = [
        f"{sha256(b'!')}  Hello!.txt\n",
        f"{sha256(b'b' + bytes([10]))}  b.csv\n",
        f"{sha256(b'a' + bytes([10]))}  sub/a.csv\n",
    ]
    assert actual(f"file:{folder}") == sha256("".join(sorted(lines)).encode())


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum on this system")
def test_the_hash_of_a_folder_can_be_had_from_a_shell(folder: Path) -> None:
    command = "find * -type f | xargs sha256sum | LC_ALL=C sort | sha256sum"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=True)
    assert actual(f"file:{folder}") == done.stdout.decode()[:64]


def test_hidden_files_do_not_count(folder: Path) -> None:
    before = actual(f"file:{folder}")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"x")
    source = open_source(f"file:{folder}", sha256=before)
    assert ".DS_Store" not in source.names()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "b.csv").write_bytes(b"c\n"),
        lambda folder: (folder / "b.csv").rename(folder / "c.csv"),
        lambda folder: (folder / "new.csv").write_bytes(b""),
        lambda folder: (folder / "b.csv").unlink(),
    ],
)
def test_any_change_changes_the_hash_of_a_folder(folder: Path, change: object) -> None:
    before = actual(f"file:{folder}")
    assert callable(change)
    change(folder)
    with pytest.raises(UserError, match=f"expected sha256 {before}, got [0-9a-f]{{64}}; .*params"):
        open_source(f"file:{folder}", sha256=before)


def test_a_wrong_pin_of_a_file_says_the_right_one(folder: Path) -> None:
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, got {sha256(b'!')}"):
        open_source(f"file:{folder}/Hello!.txt", sha256="0" * 64)
    assert actual(f"file:{folder}/Hello!.txt") == sha256(b"!")


def test_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert open_source("file:data/b.csv", sha256=sha256(b"b\n")).read("b.csv") == b"b\n"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file or folder.*gone\.csv"):
        open_source(f"file:{tmp_path}/gone.csv", sha256="0" * 64)


@pytest.mark.parametrize("name", ["sub/b.csv", "../data/b.csv", "/etc/passwd", "b.csv!x"])
def test_a_name_that_is_not_there(folder: Path, name: str) -> None:
    source = open_source(f"file:{folder}", sha256=actual(f"file:{folder}"))
    with pytest.raises(UserError):
        source.read(name)
    with pytest.raises(UserError, match="no file"):
        source.folder("", [name])


def test_a_file_that_changes_after_it_was_checked(folder: Path) -> None:
    source = open_source(f"file:{folder}", sha256=actual(f"file:{folder}"))
    (folder / "b.csv").write_bytes(b"other")
    with pytest.raises(UserError, match=r"b\.csv has changed"):
        source.read("b.csv")


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("in/x.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    source = open_source(f"file:{path}", sha256=sha256(path.read_bytes()))
    assert source.names() == ["data.tar.gz"]
    assert source.read("data.tar.gz!in/x.txt") == b"abc"
    with pytest.raises(UserError, match=r"!data\.tar\.gz: no file 'y'; .* look at: in/x\.txt"):
        source.read("data.tar.gz!y")
