"""What a pipeline needs of the disk, beside what lies there already."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from test_plan import FLAT, case, config, evaluation

from stages import plan as program
from stages.errors import UserError
from stages.planning import machine
from stages.planning.case import Recipe
from stages.planning.planned import Plan, disk_of

WEIGHTS = 2 * 4 * 1600
"""Bytes of tuned weights, and of DVC's copy."""
RESUMED = 16 * 1600


def _plan(disk: float = 1e15, *there: str) -> Plan:
    """Of three runs, the last with two seeds."""
    runs = [Recipe(name, config(), ()) for name in ("one", "two")]
    runs.append(Recipe("three", config(seeds=[0, 1]), ()))
    on = replace(FLAT, disk=disk)
    return Plan({"one": case()}, runs, evaluation(), 100, on, there=frozenset(there))


def _tuning(made: Plan) -> float:
    return disk_of([one for one in made.stages() if one.stage.startswith("finetune")])


def test_one_run_at_a_time_has_resume_points() -> None:
    """All weights stay; each run removes its resume points, those of all its seeds at once."""
    assert _tuning(_plan()) == 4 * WEIGHTS + 2 * RESUMED
    alone = {one.stage: one.disk for one in _plan().stages()}
    assert alone["finetune@one"] == WEIGHTS + RESUMED
    assert alone["finetune@three"] == 2 * (WEIGHTS + RESUMED)


def test_what_the_largest_resume_point_leaves_room_for_is_not_refused() -> None:
    needed = disk_of(list(_plan().stages()))
    assert list(_plan(needed).refusals(list(_plan().stages()))) == []
    (said,) = _plan(needed - 1).refusals(list(_plan().stages()))
    assert said.startswith("the disk: ")


def test_what_lies_there_needs_no_room() -> None:
    stages = [one.stage for one in _plan().stages()]
    made = _plan(0.0, *stages)
    assert list(made.refusals(list(made.stages()))) == []
    all_but_one = [stage for stage in stages if stage != "finetune@two"]
    for disk, refused in ((WEIGHTS + RESUMED, 0), (WEIGHTS + RESUMED - 1, 1)):
        made = _plan(disk, *all_but_one)
        said = list(made.refusals(list(made.stages())))
        assert len(said) == refused
        assert all("finetune@two's: set runs.two.methods" in line for line in said)


Told = Callable[..., str]


@pytest.fixture
def told(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Told]:
    """What the command prints in a tiny project, on a disk of which nothing is free."""
    shutil.copytree(own, tmp_path / tiny.OWN)
    tiny.write_params(tmp_path, tiny.make_params(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "SECONDS", 0.01)
    here = machine.here
    monkeypatch.setattr(program, "here", lambda devices: replace(here(devices), disk=0.0))

    with tiny.one_thread():
        yield tiny.telling(capsys, "plan")


def _outs(project: Path) -> list[Path]:
    runs = tiny.read_params(project)["runs"]
    records = Path("metrics/records") / tiny.CASE
    tuned = [Path("models/tuned") / run for run in runs]
    asked = [records / f"{run}.parquet" for run in ("base", *runs)]
    return [Path(f"models/base/{tiny.CASE}.json"), *tuned, *asked, Path("metrics/report.html")]


def test_a_pipeline_that_has_run_is_not_refused(told: Told, tmp_path: Path) -> None:
    """The outs of all its stages lie there, as after `dvc repro`."""
    with pytest.raises(UserError, match="the disk: "):
        told()
    for out in _outs(tmp_path):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir() if out.parent.name == "tuned" else out.touch()
    assert "Of the disk 0.00 GB are still to be written; the rest lies here" in told()
    # A model on paper is another one.
    with pytest.raises(UserError, match="the disk: "):
        told("--parameters", "1e8")
    (tmp_path / f"metrics/records/{tiny.CASE}/base.parquet").unlink()
    with pytest.raises(UserError, match=r"the disk: .* pretrain-baseline-eval@tiny's"):
        told()
