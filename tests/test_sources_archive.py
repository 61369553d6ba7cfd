import io
import multiprocessing
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from archived import tarred, zipped
from faults_page import Fault

from stages.errors import UserError
from stages.sources import archive as archives
from stages.sources.archive import Archive
from stages.sources.extracted import extracted

Maker = Callable[[dict[str, bytes]], bytes]


def opened(content: bytes) -> Archive:
    return Archive("pypi:x==1", io.BytesIO(content))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FILES = {"b/two.txt": b"two", "a.txt": b"one", "b/empty": b"", "Hello!.txt": b"!"}


@pytest.mark.parametrize(
    "content",
    [zipped(FILES), *(tarred(FILES, f"w:{kind}") for kind in ("", "gz", "bz2", "xz"))],
    ids=["zip", "tar", "gz", "bz2", "xz"],
)
def test_names_and_bytes(content: bytes) -> None:
    archive = opened(content)
    assert archive.names() == sorted(FILES)
    assert {name: archive.read(name) for name in FILES} == FILES


def test_a_path_is_opened_too(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(FILES))
    assert Archive("x", tmp_path / "x.zip").read("a.txt") == b"one"


@pytest.mark.parametrize("outer", [zipped, tarred])
@pytest.mark.parametrize("inner", [zipped, tarred])
def test_archives_within_archives(outer: Maker, inner: Maker) -> None:
    deepest = inner({"x.txt": b"deep"})
    archive = opened(outer({"pkg/in.bin": outer({"more/in.bin": deepest})}))
    assert archive.names() == ["pkg/in.bin"]
    assert archive.read("pkg/in.bin!more/in.bin") == deepest
    assert archive.read("pkg/in.bin!more/in.bin!x.txt") == b"deep"
    with pytest.raises(UserError, match=r"pypi:x==1!pkg/in\.bin!more/in\.bin: no file 'y'"):
        archive.read("pkg/in.bin!more/in.bin!y")
    with pytest.raises(UserError, match=r"pypi:x==1: no file 'pkg/out\.bin!x'"):
        archive.read("pkg/out.bin!x")


def test_a_dot_before_a_name_is_dropped() -> None:
    assert opened(tarred({"./a/b.txt": b"x"})).read("a/b.txt") == b"x"


OUTSIDE = ["/etc/evil", "../evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil", "\\evil"]


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_outside_is_passed_over(
    make: Maker, name: str, cache: Path, fault: Fault
) -> None:
    archive = opened(make({name: b"evil", "good": b"good"}))
    assert archive.names() == ["good"]
    with pytest.raises(UserError, match="no file"):
        extracted(archive, "0" * 64, {name: name})
    with pytest.raises(UserError, match="no file"):
        extracted(archive, "0" * 64, {"good": "good", "x": name})
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".lock", ".lock"]
    fault(f"an archive with a member named {name}", "passed over: not listed, not extracted")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_of_a_tar_are_passed_over(kind: bytes, fault: Fault) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
        inside = tarfile.TarInfo("link/file")
        inside.size = 1
        archive.addfile(inside, io.BytesIO(b"x"))
    assert opened(stream.getvalue()).names() == ["link/file"]
    fault(
        f"a tar with a link, pipe or device (type {kind.decode()})",
        "passed over: not listed, not extracted",
    )


def test_links_of_a_zip_are_passed_over(cache: Path, fault: Fault) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("link/file", "x")
    opening = opened(stream.getvalue())
    assert opening.names() == ["link/file"]
    folder = extracted(opening, "0" * 64, {"link/file": "link/file"})
    assert not (folder / "link").is_symlink()
    fault("a wheel or zip with a symbolic link", "passed over: not listed, not extracted")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04 no zip", b"no archive at all" * 99])
def test_no_archive(content: bytes) -> None:
    with pytest.raises(UserError, match=r"pypi:x==1: cannot be read as a zip or tar archive"):
        opened(content)


def test_a_damaged_member(fault: Fault) -> None:
    content = bytearray(zipped({"a": os.urandom(100_000), "b": b"x"}))
    content[50_000:50_020] = bytes(20)
    archive = opened(bytes(content))
    assert archive.read("b") == b"x"
    with pytest.raises(UserError, match="cannot be read as a zip or tar archive"):
        archive.read("a")
    fault("a wheel or zip with a damaged member", "exit 1, one line; its other members are read")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_half_an_archive(make: Maker) -> None:
    content = make({"a": os.urandom(100_000), "b": b"x"})
    with pytest.raises(UserError, match="cannot be read as a zip or tar archive"):
        opened(content[:50_000]).read("a")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_bomb_is_refused_before_it_unfolds(
    make: Maker, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(archives, "SMALL", 100_000)
    bomb = make({"zeros": bytes(1_000_000)})
    with pytest.raises(UserError, match=r"would unfold to 1000000 or more.*200 times"):
        opened(bomb)
    monkeypatch.setattr(archives, "SMALL", 1_000_000)
    assert len(opened(bomb).read("zeros")) == 1_000_000
    fault("a zip or tar bomb", "exit 1, one line, before it unfolds")


def test_more_than_the_largest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST", 1000)
    with pytest.raises(UserError, match="would unfold to 1200 or more"):
        opened(zipped({"a": os.urandom(600), "b": os.urandom(600)}))


def test_a_member_that_lies_about_its_size_is_cut_off(fault: Fault) -> None:
    content = zipped({"zeros": bytes(10_000_000)})
    honest, lie = (10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    true, false = (zlib.crc32(bytes(size)).to_bytes(4, "little") for size in (10_000_000, 10))
    assert content.count(honest) == 2
    lying = opened(content.replace(honest, lie).replace(true, false))
    assert lying.read("zeros") == bytes(10)
    fault("a zip whose member is longer than it says", "cut off at what it says")


def test_extracted_files_and_no_others(cache: Path) -> None:
    archive = opened(zipped({"pkg/in.tgz": tarred({"x": b"deep"}), **FILES}))
    members = {"sub/one": "a.txt", "empty": "b/empty", "x": "pkg/in.tgz!x"}
    folder = extracted(archive, "0" * 64, members)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(members)
    assert (folder / "sub" / "one").read_bytes() == b"one"
    assert (folder / "x").read_bytes() == b"deep"
    assert extracted(archive, "0" * 64, members) == folder
    assert extracted(archive, "1" * 64, members) != folder
    assert extracted(archive, "0" * 64, {"one": "a.txt"}) != folder
    assert not any(extracted(archive, "0" * 64, {}).iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "one").write_bytes(b"ONE"),
        lambda folder: (folder / "one").write_bytes(b"on"),
        lambda folder: (folder / "one").write_bytes(b"one more"),
        lambda folder: (folder / "one").unlink(),
        lambda folder: (folder / "extra").write_bytes(b""),
    ],
)
def test_what_was_damaged_is_extracted_again(cache: Path, damage: Callable[[Path], None]) -> None:
    archive = opened(zipped(FILES))
    folder = extracted(archive, "0" * 64, {"one": "a.txt"})
    inode = folder.stat().st_ino
    assert extracted(archive, "0" * 64, {"one": "a.txt"}).stat().st_ino == inode
    damage(folder)
    extracted(archive, "0" * 64, {"one": "a.txt"})
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert (folder / "one").read_bytes() == b"one"


def test_a_failed_extraction_leaves_nothing(cache: Path) -> None:
    archive = opened(zipped(FILES))
    with pytest.raises(UserError, match="no file 'gone'"):
        extracted(archive, "0" * 64, {"a": "a.txt", "b": "gone"})
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".lock"}
    assert not any(path.name == "a" for path in cache.rglob("*"))


def extract_in_a_process(cache: str, content: bytes) -> dict[str, bytes]:
    os.environ["PALIMPSEST_CACHE"] = cache
    folder = extracted(opened(content), "0" * 64, {name: name for name in FILES})
    return {name: (folder / name).read_bytes() for name in FILES}


def test_two_processes_extract_at_once(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        calls = [(str(cache), zipped(FILES))] * 8
        assert pool.starmap(extract_in_a_process, calls, chunksize=1) == [FILES] * 8
