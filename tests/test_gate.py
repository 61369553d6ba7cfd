"""The gate as a user runs it: exit codes, a line a task, and what it refuses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import gate
from stages.errors import UserError
from stages.report.gate import GateLine, summary
from stages.report.units import Ends, unit_of
from stages.storage import read_json, write_json


def task(status: str, change: float, needed: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "role": "retain",
        "measure": "accuracy",
        "change": change,
        "low": change - 0.02,
        "high": change + 0.02,
        "limit": -0.05,
        "n": 150,
        "needed": needed,
        **more,
    }


GAIN = task("pass", 0.04, role="target", limit=0.0)
GOOD = {"verdict": "pass", "warnings": [], "tasks": {"goal": GAIN, "kept": task("pass", 0.0)}}
OPEN = {
    "verdict": "undecided",
    "warnings": ["open was measured with another dtype than its base (bfloat16, not float32)"],
    "tasks": {"kept": task("undecided", -0.04, 1234), "tie": task("undecided", -0.05)},
}
BAD = {
    "verdict": "degraded",
    "warnings": [],
    "tasks": {
        "kept": task("degraded", -0.2),
        "text": task("undecided", -0.02, 400, measure="bits_per_byte", limit=-0.02),
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = next(iter(real["runs"].values()))
    real["runs"] = {"good": recipe, "open": recipe, "bad": recipe}
    tiny.write_params(tmp_path, real)
    limits = real["compare"]["gate"]
    told = {"good": GOOD, "open": OPEN, "bad": BAD}
    write_json(gate.GATE, {"limits": limits, "cases": {"case": told}})
    return tmp_path


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        (["good"], 0),
        (["bad"], 2),
        (["open"], 3),
        (["good", "open"], 3),
        (["open", "bad"], 2),
        ([], 2),
    ],
)
def test_exit_codes(folder: Path, runs: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        gate.main(*runs)
    assert ended.value.code == code


def test_as_a_program(folder: Path) -> None:
    def call(*runs: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "stages.gate", *runs]
        environment = {**tiny.environment(folder), "PYTHONPATH": str(tiny.ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = call("open")
    assert (done.returncode, done.stderr) == (3, "")
    done = call("opne")
    assert done.returncode == 1
    assert done.stderr == "error: opne: no such run; did you mean open?\n"


def test_a_line_a_task(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gate.main()
    assert capsys.readouterr().out.splitlines() == [
        "good: pass",
        "  pass       goal (target): +4.0 [+2.0, +6.0] points, at least +0.0 passes, 150 examples",
        "  pass       kept: +0.0 [-2.0, +2.0] points, at least -5.0 passes, 150 examples",
        "open: undecided",
        "  undecided  kept: -4.0 [-6.0, -2.0] points, at least -5.0 passes, 150 examples; pass "
        "at about 1,300 examples",
        "  undecided  tie: -5.0 [-7.0, -3.0] points, at least -5.0 passes, 150 examples; "
        "still undecided at 100,000 examples",
        "  warning: open was measured with another dtype than its base (bfloat16, not float32)",
        "bad: degraded",
        "  degraded   kept: -20.0 [-22.0, -18.0] points, at least -5.0 passes, 150 examples",
        "  undecided  text: -0.020 [-0.040, +0.000] bits/byte, at least -0.020 passes, 150 "
        "examples; pass at about 400 examples",
    ]


def test_what_it_refuses(folder: Path) -> None:
    tiny.edit_params(folder, compare__gate__margin=0.1)
    with pytest.raises(
        UserError, match=r"another compare\.gate than params.yaml's; run `dvc repro`"
    ):
        gate.main()
    tiny.edit_params(folder, compare__gate__margin=0.05)
    params = tiny.read_params(folder)
    params["runs"]["new"] = params["runs"]["good"]
    tiny.write_params(folder, params)
    with pytest.raises(UserError, match=r"gate\.json: nothing of new; run `dvc repro`"):
        gate.main()
    gate.GATE.unlink()
    with pytest.raises(UserError, match=r"metrics/gate\.json: not there; run `dvc repro`"):
        gate.main()


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"limits": None},
        {"cases": None},
        {"cases": {"case": {"good": {}}}},
        {"cases": {"case": {"good": {**GOOD, "verdict": "perhaps"}}}},
        {"cases": {"case": {"good": {**GOOD, "tasks": {"goal": {**GAIN, "change": "much"}}}}}},
    ],
)
def test_a_damaged_file(damage: dict[str, Any], folder: Path) -> None:
    whole = read_json(gate.GATE)
    write_json(gate.GATE, {**whole, **damage} if "cases" in damage else damage)
    with pytest.raises(UserError, match=r"^metrics/gate\.json: damaged; run `dvc repro compare`$"):
        gate.main("good")


def test_what_more_examples_would_say() -> None:
    """In two digits, rounded up, for it is an estimate."""
    lines = [
        GateLine(
            "open", name, False, "undecided", unit_of("accuracy"), Ends(0.0, -1.0, 1.0), 0.0, 9, n
        )
        for name, n in (("few", 98), ("kept", 1234), ("many", 9901), ("tie", None))
    ]
    assert summary(lines, "undecided") == (
        "undecided on few (pass at about 98 examples), kept (pass at about 1,300 examples), "
        "many (pass at about 10,000 examples), tie (still undecided at 100,000 examples)"
    )
