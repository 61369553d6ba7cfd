"""make sweep: a grid as queued DVC experiments, taken up where it ended, chosen on validation."""

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import sweep
from stages.check import check
from stages.config.overrides import changed
from stages.errors import UserError

COMPARE = """
import json, sys, yaml
from pathlib import Path

run = yaml.safe_load(Path("params.yaml").read_text())["runs"]["bert-full"]
rate, replays = float(run["learning_rate"]), "replay" in run["methods"]
if rate > 0.5 and not Path("{mended}").exists():
    sys.exit("diverged")
gain = 1000 * rate
drop = gain / (10 if replays else 2)
told = {{
    "name": "bert-full",
    "validation": [gain, drop],
    "gain": {{"value": gain, "low": gain - 0.01, "high": gain + 0.01}},
    "drop": {{"value": drop, "low": drop - 0.01, "high": drop + 0.01}},
}}
Path("metrics").mkdir(exist_ok=True)
Path("metrics/frontier.json").write_text(json.dumps({{"medical-bert": {{"attempts": [told]}}}}))
"""
REPLAY = {"replay": {"fraction": 0.05, "tasks": ["news-retrieval"]}}
GRID = {
    "run": "bert-full",
    "values": {"learning_rate": [1.0e-4, 2.0e-4], "methods": [{}, REPLAY]},
}


def real_params() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["runs"]["bert-full"]["pool"] = "retain/train"
    return found


@pytest.fixture
def project(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tiny.Project:
    """A pipeline of one stage that says how a run would do; a rate of 0.9 fails."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "compare.py").write_text(COMPARE.format(mended=tmp_path / "mended"))
    stage = {
        "cmd": f"{sys.executable} compare.py",
        "deps": ["compare.py"],
        "params": ["runs"],
        "outs": [{"metrics/frontier.json": {"cache": False}}],
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"compare": stage}}))
    project = tiny.Project(folder, environment)
    tiny.write_params(folder, {**real_params(), "sweep": {"medical-bert": GRID}})
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("init", "--quiet")
    project.dvc("repro", "--quiet")
    project.commit("A run")
    monkeypatch.setattr(sweep, "WAIT", 1.0)
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return project


def test_a_sweep(project: tiny.Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.main("medical-bert", "2")
    said = capsys.readouterr().out
    names = project.dvc("exp", "list", "--name-only").split()
    assert len(names) == 4
    head, *rows, last = said.splitlines()
    assert head.split()[:3] == ["experiment", "learning_rate", "methods"]
    # The faster rate with replay gains most; at the slower one, only with replay is less lost.
    assert [("replay" in row, "0.0002" in row) for row in rows] == [
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert ["[" in row.split("}")[-1] for row in rows[:2]] == [True, True]
    assert all("[" not in row for row in rows[2:])
    assert last.startswith("4 tried; ")
    assert project.git("status", "--porcelain") == ""

    # Again: nothing runs, the same is said. One value more: what is there stays, one fails.
    before = project.git("for-each-ref", "refs/exps")
    sweep.main("medical-bert")
    assert capsys.readouterr().out == said
    assert project.git("for-each-ref", "refs/exps") == before
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4, 0.9], "methods": [REPLAY]}}
    tiny.write_params(project.path, {**real_params(), "sweep": {"medical-bert": grid}})
    with pytest.raises(UserError, match=r"^bert-full-\w{8} failed: see `dvc queue logs bert-full"):
        sweep.main("medical-bert")
    assert "2 tried; " in capsys.readouterr().out
    (tmp_path / "mended").touch()
    sweep.main("medical-bert")
    head, *rows, _ = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert len(project.dvc("exp", "list", "--name-only").split()) == 5


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"run": "bert-full"}, "sweep.medical-bert.values: missing"),
        ({**GRID, "run": "gpt-full"}, "sweep.medical-bert.run = 'gpt-full': no run of it"),
        ({**GRID, "runs": 3}, "sweep.medical-bert.runs = 3: unknown key; did you mean run?"),
        ({**GRID, "values": {"steps": []}}, "sweep.medical-bert.values.steps = []: "),
        ({**GRID, "values": {"steps": [0]}}, "sweep.medical-bert.values.steps = 0: "),
        ({**GRID, "values": {"stepps": [1]}}, "sweep.medical-bert.values.stepps = 1: unknown key"),
        ({**GRID, "values": {"steps": [*range(1, 2000)]}}, "sweep.medical-bert.values = 1999: "),
        (
            {**GRID, "values": {"methods": [{"replay": {"fraction": 5, "tasks": ["trivia"]}}]}},
            "runs.bert-full.methods.replay.fraction = 5: ",
        ),
    ],
)
def test_what_is_refused(
    grid: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, {**real_params(), "sweep": {"medical-bert": grid}})
    with pytest.raises(UserError) as error:
        check()
    assert str(error.value).startswith(f"params.yaml: {said}")


def test_a_case_without_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, {**real_params(), "sweep": {"medical-bert": GRID}})
    with pytest.raises(UserError, match="news-gpt: no grid of this case under sweep"):
        sweep.main("news-gpt")
    with pytest.raises(UserError, match="JOBS=0: give a whole number from 1"):
        sweep.main("medical-bert", "0")


def test_changed_sets_what_lies_deep_and_leaves_the_run_alone() -> None:
    run = {"methods": {"lora": {"r": 4, "alpha": 8}}, "steps": 3}
    found = changed(run, {"methods.lora.r": 16, "methods.lwf.weight": 1.0, "steps": 9})
    assert found == {
        "methods": {"lora": {"r": 16, "alpha": 8}, "lwf": {"weight": 1.0}},
        "steps": 9,
    }
    assert run == {"methods": {"lora": {"r": 4, "alpha": 8}}, "steps": 3}


def test_by_make(project: tiny.Project) -> None:
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4]}}
    tiny.write_params(project.path, {**real_params(), "sweep": {"medical-bert": grid}})
    done = tiny.with_make(project).call("make", "sweep", "CASE=medical-bert", "JOBS=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 tried; ")
