"""How a program ends: its exit code, and what it says then."""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from faults_page import Fault

from stages import errors
from stages.errors import UserError


def programs() -> list[Path]:
    found = sorted((tiny.ROOT / "stages").rglob("*.py"))
    return [path for path in found if '"__main__"' in path.read_text(encoding="utf-8")]


def test_every_program_ends_by_the_same_rules(fault: Fault) -> None:
    """What stands under `if __name__ == "__main__"` is `errors.run(main, …)` and nothing else; what
    help prints says how the program is called, of a stage which it is."""
    assert len(programs()) >= 9
    for path in programs():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        last = tree.body[-1]
        assert isinstance(last, ast.If), path
        (statement,) = last.body
        assert ast.unparse(statement) == "errors.run(main, *sys.argv[1:])", path
        module = ".".join(path.relative_to(tiny.ROOT).with_suffix("").parts)
        stage = f"Stage {path.stem.replace('_', '-')}: "
        told = ast.get_docstring(tree) or ""
        assert told.startswith(stage) or f"`python -m {module}" in told, path
    fault("a mistake, in any program of stages/", "told by the one function that ends them all")


def end_of(error: BaseException) -> tuple[object, str]:
    """The exit code that the system sees, and what is printed with it."""

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        errors.run(main)
    code = ended.value.code
    return (1, code) if isinstance(code, str) else (code, "")


def refused(size: int) -> BaseException:
    """What torch says on a CPU where `size` numbers are asked for."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(size)
    return error.value


class Panic(BaseException):
    """As a library's Rust ends: no Exception."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("x: no\ny: no"), 1, "error: x: no\nerror: y: no"),
        (UserError("a\x1b[2J\u202e"), 1, "error: a\\x1b[2J\\u202e"),
        (OSError(errno.ENOSPC, "x", "f"), 1, "error: f: no space left on device; make room, then"),
        (FileNotFoundError(errno.ENOENT, "x", "f"), 1, "error: f: not there; run `dvc repro`"),
        (ValueError("odd\nand more"), 1, "error: unforeseen: ValueError: odd; PALIMPSEST_DEBUG=1"),
        (MemoryError(), 1, "error: out of memory (MemoryError); where a run is trained set"),
        (refused(2**58), 1, "error: out of memory ("),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), 1, "error: out of memory (CUDA out"),
        (RecursionError("deep"), 1, "error: unforeseen: RecursionError: deep;"),
        (Panic("no entry"), 1, "error: unforeseen: Panic: no entry;"),
        (KeyboardInterrupt(), 128 + signal.SIGINT, ""),
        (SystemExit(2), 2, ""),
        (SystemExit(3), 3, ""),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    monkeypatch.delenv("PALIMPSEST_DEBUG", raising=False)
    found, text = end_of(error)
    assert found == code
    assert text.startswith(said)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err + text
    kind = type(error).__name__
    fault(
        f"a {kind} in a program, exit code {code}", f"says: {said.splitlines()[0] if said else '-'}"
    )


CHILD = """
import os, signal
from stages import errors
# A shell's background job, in which these tests may run, ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
def main(*numbers):
    for number in numbers:
        os.kill(os.getpid(), int(number))
errors.run(main, *{arguments!r})
"""


def child(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CHILD.format(arguments=arguments)],
        env={**os.environ, "PYTHONPATH": str(tiny.ROOT), "PALIMPSEST_DEBUG": ""},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("program", ["stages.check", "stages.gate"])
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_says_what_a_program_does(program: str, asked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, asked], cwd=tiny.ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"`python -m {program}" in done.stdout


def test_arguments_that_a_program_does_not_take() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.check", "bert-full"],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: too many positional arguments: give nothing, not bert-full\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_seen_enough(lines: int) -> None:
    text = f"from stages import errors\nerrors.run(lambda: print('line\\n' * {lines}))"
    program = subprocess.Popen(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(tiny.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout
    assert program.stderr
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 128 + signal.SIGPIPE


def test_as_the_system_sees_it() -> None:
    assert child().returncode == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        done = child(str(int(number)))
        assert (done.returncode, done.stderr) == (128 + number, "")
    done = child("none")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unforeseen: ValueError: ")
    assert len(done.stderr.splitlines()) == 1
