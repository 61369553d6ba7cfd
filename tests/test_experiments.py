"""DVC's own commands for experiments, as the README gives them, on the whole pipeline."""

import csv
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from statistics import fmean

import pytest
import tiny

from stages import experiments
from stages.errors import UserError

RATE = "runs.full.learning_rate"
HEADLINE = f"{tiny.CASE}.full.drop"
FILES = ("frontier", "scores")


@pytest.fixture
def project(reproduced: tiny.Project) -> Iterator[tiny.Project]:
    yield reproduced
    reproduced.dvc("exp", "remove", "--all-commits", "--queue")
    reproduced.restore()


def test_a_worker_that_a_command_leaves_behind_is_not_waited_for() -> None:
    """As `dvc queue start` leaves one, whose own end DVC may miss."""
    begun = time.monotonic()
    said = experiments.call("bash", "-c", "sleep 30 & echo $!; echo begun >&2")
    assert time.monotonic() - begun < 20
    os.kill(int(said), signal.SIGTERM)
    with pytest.raises(UserError, match=r"^bash -c echo no >&2; exit 3 failed: no$"):
        experiments.call("bash", "-c", "echo no >&2; exit 3")


def test_experiments_in_a_queue(project: tiny.Project) -> None:
    tried = {"warm": 3e-4, "hot": 3e-3}
    for name, rate in tried.items():
        project.dvc("exp", "run", "--queue", "--name", name, "-S", f"{RATE}={rate:g}")
    assert json.loads(project.dvc("status", "--json")) == {}, "nothing ran here"
    project.dvc("queue", "start", "-j", "2")
    project.dvc("queue", "logs", "--follow", "warm")
    project.dvc("queue", "logs", "--follow", "hot")
    project.dvc("queue", "stop")
    status = project.dvc("queue", "status")
    assert status.count("Success") == 2, status

    table = project.dvc("exp", "show", "--csv", "--no-pager")
    rows = {row["Experiment"] or row["rev"]: row for row in csv.DictReader(io.StringIO(table))}
    assert set(tried) <= set(rows)
    for name, rate in tried.items():
        assert float(rows[name][RATE]) == pytest.approx(rate)
    brief = project.dvc("exp", "show", "--only-changed", "--drop", ".*(/|drop|frontier)")
    figures = [f"{tiny.CASE}.full.gain.{tiny.TARGET}", f"{tiny.CASE}.full.retained_min", RATE]
    assert [name for name in brief.splitlines()[1].split() if "." in name] == figures
    drops = [key for key in rows["warm"] if key.startswith(HEADLINE)]
    assert drops
    assert any(rows["warm"][key] != rows["hot"][key] for key in drops)

    project.dvc("exp", "branch", "hot", "hotter")
    project.git("switch", "--quiet", "hotter")
    project.dvc("checkout")
    assert json.loads(project.dvc("status", "--json")) == {}
    params = tiny.read_params(project.path)
    assert params["runs"]["full"]["learning_rate"] == pytest.approx(tried["hot"])
    project.git("switch", "--quiet", "main")
    project.git("branch", "--quiet", "-D", "hotter")


def test_what_a_sweep_compares_by(project: tiny.Project) -> None:
    """Drops of each unseen task, on validation and on test, whose means are the frontier's."""
    told = (json.loads((project.path / f"metrics/{name}.json").read_text()) for name in FILES)
    frontier, scores = (one[tiny.CASE] for one in told)
    assert {"full", "lora"} <= {one["name"] for one in frontier["attempts"]}
    for one in frontier["attempts"]:
        assert set(one["by_task"]) == set(tiny.RETAIN)
        assert fmean(one["by_task"].values()) == pytest.approx(one["validation"][1], abs=2e-4)
        drops = [scores[one["name"]][task]["drop"] for task in one["by_task"]]
        assert fmean(drop["value"] for drop in drops) == pytest.approx(
            one["drop"]["value"], abs=2e-4
        )
        assert all(drop["low"] <= drop["value"] <= drop["high"] for drop in drops)
