"""The page of faults: what tests said they injected, whether they ran here or in workers."""

import shutil
import subprocess
import sys
from pathlib import Path

import faults_page
import pytest
import tiny

TESTS = """
import pytest

@pytest.mark.parametrize("name", ["a|b", "c"])
def test_said(name, fault):
    fault(name, "one <line>")

@pytest.mark.parametrize("name", ["first", "second"])
def test_wrong(name, fault):
    fault("before it failed", "seen")
    assert name == "first"

def test_left_out(fault):
    fault("d", "never")
"""
OLD: faults_page.Rows = {
    ("test_some.py::test_said", "of another day"): "seen",
    ("test_some.py::test_left_out", "d"): "seen then",
    ("test_some.py::test_gone", "e"): "seen then",
    ("test_gone.py::test_said", "f"): "seen then",
}


def page(folder: Path, *arguments: str) -> faults_page.Rows:
    """What the page says after a run of TESTS, of which one is left out."""
    tests = folder / "tests"
    tests.mkdir()
    shutil.copy(tiny.ROOT / "tests/faults_page.py", tests)
    (tests / "conftest.py").write_text('pytest_plugins = ["faults_page"]', encoding="utf-8")
    (tests / "test_some.py").write_text(TESTS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n", encoding="utf-8")
    faults_page.write(tests / "FAULTS.md", OLD)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    command += ["--deselect", "tests/test_some.py::test_left_out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    return faults_page.read(tests / "FAULTS.md")


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["here", "in workers"])
def test_a_run_of_all_tests_says_what_they_said(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Of what did not run, what is still there stays."""
    assert page(tmp_path, *arguments) == {
        ("test_some.py::test_said", r"a\|b"): r"one \<line\>",
        ("test_some.py::test_said", "c"): r"one \<line\>",
        ("test_some.py::test_wrong", "before it failed"): "seen",
        ("test_some.py::test_wrong", "second"): faults_page.FAILED,
        ("test_some.py::test_left_out", "d"): "seen then",
    }


def test_a_run_of_some_leaves_the_other_rows(tmp_path: Path) -> None:
    found = page(tmp_path, "tests/test_some.py")
    assert found.items() >= OLD.items()
    assert found["test_some.py::test_said", "c"] == r"one \<line\>"
