import pytest

from stages.errors import UserError
from stages.sources.names import missing
from stages.sources.pinned import open_source

SHA256 = "a" * 64
COMMIT = "b" * 40


@pytest.mark.parametrize("source", ["", "pypi", "pypi:", "git:x", "http://x/y", "/data/x.csv"])
def test_an_unknown_source(source: str) -> None:
    with pytest.raises(UserError, match="begin it with pypi:, hf: or file:"):
        open_source(source, sha256=SHA256)


@pytest.mark.parametrize(
    "source", ["pypi:a", "pypi:a==", "pypi:a>=1", "pypi:a == 1", "pypi:../a==1"]
)
def test_a_misspelt_release(source: str) -> None:
    with pytest.raises(UserError, match="write it as pypi:<name>==<version>"):
        open_source(source, sha256=SHA256)


@pytest.mark.parametrize(
    ("source", "sha256", "revision", "named"),
    [
        ("pypi:a==1", SHA256, COMMIT, "revision"),
        ("file:a.csv", SHA256, COMMIT, "revision"),
        ("hf:a/b", SHA256, COMMIT, "sha256"),
    ],
)
def test_a_pin_of_another_scheme(source: str, sha256: str, revision: str, named: str) -> None:
    with pytest.raises(UserError, match=f"{source}: {named} does not apply"):
        open_source(source, sha256=sha256, revision=revision)


@pytest.mark.parametrize("sha256", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_a_misspelt_sha256(sha256: str) -> None:
    with pytest.raises(UserError, match="not 64 lower-case hex digits"):
        open_source("pypi:a==1", sha256=sha256)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a/train.csv", "b/train.csv"), ("test.txt", "text.txt"), ("zzz", "b/train.csv, text.txt")],
)
def test_a_missing_name_shows_its_like(name: str, shown: str) -> None:
    assert str(missing("pypi:x==1", name, ["text.txt", "b/train.csv"])) == (
        f"pypi:x==1: no file {name!r}; of its 2 files, look at: {shown}"
    )
