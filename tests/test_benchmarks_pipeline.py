"""The benchmark of two checkouts, on stages that only wait: real DVC, the times known."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import ROOT

SECONDS = {"earlier": {"one": 0.0, "two": 1.5}, "later": {"one": 0.0, "two": 0.0}}


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("checkouts")
    for name, seconds in SECONDS.items():
        told = {
            stage: {"cmd": f"sleep {wait} && echo {name} > {stage}", "outs": [stage]}
            for stage, wait in seconds.items()
        }
        (home / name).mkdir()
        (home / name / "dvc.yaml").write_text(yaml.safe_dump({"stages": told}), encoding="utf-8")
        init = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
        subprocess.run(init, cwd=home / name, check=True)
    return [home / name for name in SECONDS]


def _called(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.benchmarks.pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_each_stage_runs_in_both(checkouts: list[Path]) -> None:
    done = _called(*checkouts)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split()[:4] == ["stage", "earlier", "later", "ratio"]
    found = {name: list(map(float, figures)) for name, *figures in map(str.split, lines)}
    assert list(found) == ["one", "two", "all"]
    earlier, later, ratio, _ = found["two"]
    assert earlier > 1.5
    assert earlier - later > 0.7
    assert ratio == pytest.approx(later / earlier, abs=0.05)
    for at in (0, 1):
        assert found["all"][at] == pytest.approx(found["one"][at] + found["two"][at], abs=0.11)
    assert [(folder / "two").read_text().strip() for folder in checkouts] == ["earlier", "later"]


def test_some_stages_and_wrong_ones(checkouts: list[Path], tmp_path: Path) -> None:
    done = _called(*checkouts, "--only", "one")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["stage", "one", "all"]
    assert _called(*checkouts, "--only", "one,tow").stderr == "--only tow: no such stage\n"
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: 'false'}}\n", encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True
    )
    other = _called(checkouts[0], tmp_path)
    assert other.returncode != 0
    assert other.stderr == "stages of one alone: two\n"
    failed = _called(tmp_path, tmp_path)
    assert failed.returncode != 0
    assert "dvc repro --quiet --single-item --force one" in failed.stderr
