"""Changes of a run: as Python makes them, and as DVC does of what it is given."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages.config.overrides import changed, overrides

LORA: dict[str, Any] = {
    "steps": 3,
    "methods": {"lora": {"r": 16, "lora_alpha": 32}},
    "snapshots": [1, 2],
}


@pytest.mark.parametrize(
    ("changes", "removed"),
    [
        ({"methods": {}}, ["~runs.a-run.methods"]),
        ({"methods": {"lora": {"r": 8}}}, ["~runs.a-run.methods"]),
        ({"methods": {"l2-sp": {"alpha": 0.1}}}, ["~runs.a-run.methods"]),
        ({"methods.lora": {"r": 8}, "steps": 9}, ["~runs.a-run.methods.lora"]),
        ({"methods": {}, "methods.lora": {"r": 8}}, ["~runs.a-run.methods"]),
        ({"methods.lora.r": 8, "methods.lora": {}}, ["~runs.a-run.methods.lora"]),
        ({"methods": {**LORA["methods"], "lwf": {"weight": 1.0}}}, []),
        ({"methods.lora.r": 8, "draw": {"rows": 16}, "draw.rows": 8}, []),
        ({"methods.lwf": {"weight": 1.0}, "snapshots": [3], "steps": None}, []),
        ({"methods": None}, []),
    ],
)
def test_overrides_are_what_dvc_makes_of_them(
    changes: dict[str, Any], removed: list[str], tmp_path: Path
) -> None:
    """As its `exp run -S` does: split into combinations, of which there is one, and applied."""
    settings = overrides("a-run", changes, LORA)
    assert [one for one in settings if one.startswith("~")] == removed
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"runs": {"a-run": LORA}}))
    (given,) = get_hydra_sweeps({str(path): settings})
    apply_overrides(path, given[str(path)])
    assert yaml.safe_load(path.read_text())["runs"]["a-run"] == changed(LORA, changes)


def test_changed_sets_what_lies_deep_and_leaves_the_run_alone() -> None:
    run = {"methods": {"lora": {"r": 4, "alpha": 8}}, "steps": 3}
    found = changed(run, {"methods.lora.r": 16, "methods.lwf.weight": 1.0, "steps": 9})
    assert found == {
        "methods": {"lora": {"r": 16, "alpha": 8}, "lwf": {"weight": 1.0}},
        "steps": 9,
    }
    assert run == {"methods": {"lora": {"r": 4, "alpha": 8}}, "steps": 3}
