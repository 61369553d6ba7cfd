"""Plots as `dvc plots diff` draws them: both branches apart, zero, intervals, a row a task."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

Mark = tuple[str, dict[str, Any]]
"""What is drawn, and by which columns."""

RUN = {"case": "tiny", "run": "full"}
ENDS = {"low": -0.2, "high": 0.1}
TASKS = {"goal": "accuracy", "kept": "accuracy", "tales": "bits_per_byte"}
POINT = {"gain_low": 0.0, "gain_high": 0.2, "drop_low": 0.0, "drop_high": 0.1}
ROWS: dict[str, list[dict[str, Any]]] = {
    "changes": [{**RUN, **ENDS, "task": task, "measure": of} for task, of in TASKS.items()],
    "scores": [{**RUN, **ENDS, "task": task, "measure": of} for task, of in TASKS.items()],
    "frontier": [{**RUN, **POINT, "method": "full", "model": "full"}],
    "sequences": [
        {"case": "tiny", "sequence": "second", "task": task, "step": step, "change": 0.1}
        for task in TASKS
        for step in ("base", "first (step 1)")
    ],
    "curves": [{**RUN, "curve": "seed 0, train", "step": step} for step in range(3)],
}
MEASURED = {"changes": ["change"], "scores": ["score"], "frontier": ["gain", "drop"]}
MEASURED |= {"curves": ["loss"], "sequences": ["score"]}
TO_ZERO = {"changes": ["x"], "bits": ["x"], "frontier": ["x", "y"]}
ALIKE = ("changes", "bits", "scores")


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """The plots of two branches, by name."""
    folder = tmp_path_factory.mktemp("plots")
    project = tiny.Project(folder, environment)
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("init", "--quiet")
    shutil.copytree(tiny.ROOT / ".dvc/plots", folder / ".dvc/plots")
    whole = (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    plots = whole[whole.index("\nplots:") : whole.index("\nartifacts:")]
    (folder / "dvc.yaml").write_text(plots, encoding="utf-8")
    for branch, value in (("main", -0.1), ("other", -0.05)):
        if branch != "main":
            project.git("switch", "--quiet", "--create", branch)
        write_rows(folder / "metrics/plots", value)
        project.commit(branch)
    told = json.loads(project.dvc("plots", "diff", "--json", "main", "other"))
    assert not told.get("errors")
    return {name: one["content"] for name, (one,) in told["data"].items()}


def write_rows(folder: Path, value: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ROWS.items():
        filled = [{**row, **dict.fromkeys(MEASURED[name], value)} for row in rows]
        (folder / f"{name}.json").write_text(json.dumps(filled), encoding="utf-8")


def marks(view: dict[str, Any], above: dict[str, Any] | None = None) -> Iterator[Mark]:
    """Those of a view and its layers, which inherit what they do not unset."""
    encoding = {**(above or {}), **view.get("encoding", {})}
    for inner in (*view.get("layer", ()), *([view["spec"]] if "spec" in view else ())):
        yield from marks(inner, encoding)
    if "mark" in view:
        mark = view["mark"]
        kind = mark if isinstance(mark, str) else mark["type"]
        yield kind, {name: by for name, by in encoding.items() if by}


def test_every_plot_is_drawn_of_both_branches(drawn: dict[str, dict[str, Any]]) -> None:
    assert set(drawn) == {path.stem for path in (tiny.ROOT / ".dvc/plots").glob("*.json")}
    for name, plot in drawn.items():
        assert {row["rev"] for row in plot["data"]["values"]} == {"main", "other"}, name
        assert "<DVC_METRIC" not in json.dumps(plot), name
        of_data = [by for _, by in marks(plot) if "datum" not in str(by.get("x"))]
        of_data = [by for by in of_data if "datum" not in str(by.get("y"))]
        assert of_data
        for by in of_data:
            told = {channel for channel, one in by.items() if one == "rev" or _field(one) == "rev"}
            assert told & {"color", "shape", "strokeDash"}, (name, by)


def _field(by: Any) -> Any:
    return by.get("field") if isinstance(by, dict) else None


@pytest.mark.parametrize("name", [*ALIKE, "frontier"])
def test_intervals_and_zero(drawn: dict[str, dict[str, Any]], name: str) -> None:
    rules = [by for kind, by in marks(drawn[name]) if kind == "rule"]
    zeros = [axis for by in rules for axis in "xy" if by.get(axis, {}).get("datum") == 0]
    assert zeros == TO_ZERO.get(name, [])
    spans = [(_field(by[a]), _field(by[f"{a}2"])) for by in rules for a in "xy" if f"{a}2" in by]
    wanted = [("gain_low", "gain_high"), ("drop_low", "drop_high")]
    assert spans == (wanted if name == "frontier" else [("low", "high")])


@pytest.mark.parametrize("name", ALIKE)
def test_a_row_a_task(drawn: dict[str, dict[str, Any]], name: str) -> None:
    """The branches side by side in it."""
    plot = drawn[name]
    assert "facet" not in plot, "its scale would be shared: a run with all tasks of all cases"
    (row,) = (one for one in plot["transform"] if "calculate" in one)
    assert "datum.task" in row["calculate"] and "datum.run" in row["calculate"]
    points = [by for kind, by in marks(plot) if kind == "point"]
    assert [_field(by["y"]) for by in points] == [row["as"]]
    assert [_field(by["yOffset"]) for by in points] == ["rev"]
