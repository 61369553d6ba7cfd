"""The benchmark of growth, on small models: every stage is measured and planned."""

import json
from pathlib import Path

import pytest
import tiny
from benchmarks import growth
from benchmarks.growth import Point, main, measure

from stages.errors import UserError
from stages.planning import machine

STAGES = {"prepare", "pretrain-baseline-eval", "finetune", "retention-eval", "compare"}
SMALL = Point(examples=24, length=16, steps=2, layers=1, width=64)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.01)
    monkeypatch.setattr(growth, "BASE", SMALL)


def test_each_stage_is_measured_and_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "GROWN", {"runs": ({"runs": 2},)})
    with tiny.one_thread():
        main("--only", "runs", "--json", str(tmp_path / "found.json"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[2] for line in lines[1:]} == STAGES
    assert all(line[:2] == ["runs", "2"] for line in lines[1:])
    (found,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (found["examples"], found["runs"]) == (24, 2)
    for stage, cost in found["stages"].items():
        assert 0 < cost["worked"] < cost["seconds"], stage
        assert 50e6 < cost["peak"] < 3e9
        assert cost["planned_peak"] > 0
        assert cost["planned"] > 0 or stage == "prepare"


def test_a_stage_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE", "nowhere")
    with pytest.raises(UserError, match="PALIMPSEST_DEVICE='nowhere': no such device"):
        measure(SMALL)


def test_what_does_not_grow() -> None:
    with pytest.raises(UserError, match="--only depth: give some of examples, steps, length"):
        main("--only", "depth")
