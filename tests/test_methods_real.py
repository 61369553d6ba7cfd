"""Every method by name, on the bundled encoder and its case, through the stages.

Fewer rows and steps than the default runs, so that a method takes seconds; what is measured here
tells that a method trains and is scored, not what it is worth.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import check
from stages.records import read_table

CASE, RUN = "medical-bert", "tried"
TARGET = "medical-qa"
ROWS = {"train": 640, "validation": 60, "test": 120}
OLD_ROWS = {"train": 400, "validation": 30, "test": 80}
STEPS = 30

Methods = dict[str, dict[str, Any]]
ADAPTED = {"learning_rate": 0.002}
REPLAYING = {"pool": "retain/train"}

TRIED: dict[str, tuple[Methods, dict[str, Any]]] = {
    "full": ({}, {}),
    "lora": ({"lora": {"r": 16}}, ADAPTED),
    "dora": ({"lora": {"r": 16, "use_dora": True}}, ADAPTED),
    "rslora": ({"lora": {"r": 16, "use_rslora": True}}, ADAPTED),
    "replay": ({"replay": {"fraction": 0.2, "tasks": ["news-retrieval"]}}, REPLAYING),
}
"""By name: the methods of a run, and what else of the recipe is changed. Add a line a method."""


def _params(methods: Methods, settings: dict[str, Any]) -> dict[str, Any]:
    """The real file, its case with fewer rows, and one run of a few steps."""
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    case = real["cases"][CASE]
    sizes = dict.fromkeys(case["retain"], OLD_ROWS) | {TARGET: ROWS}
    few = {"steps": STEPS, "validate_every": 10, "validation_rows": 60, "checkpoint_every": 1000}
    run = {**real["runs"]["bert-full"], **few, "methods": methods, **settings}
    return {
        **real,
        "tasks": {task: {**real["tasks"][task], **rows} for task, rows in sizes.items()},
        "cases": {CASE: case},
        "runs": {RUN: run},
        "evaluation": {
            **real["evaluation"],
            "noise_repeats": 2,
            "noise": {"tasks": [TARGET], "conditions": ["typos-0.1"]},
        },
        "compare": {**real["compare"], "resamples": 200},
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case prepared, and its base measured."""
    folder = tmp_path_factory.mktemp("real")
    tiny.write_params(folder, _params({}, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.run_stage("prepare", CASE)
        tiny.run_stage("pretrain_baseline_eval", CASE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_method_trains_and_is_scored(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods, settings = TRIED[name]
    tiny.write_params(project, _params(methods, settings))
    monkeypatch.chdir(project)
    check.check()
    for stage in ("finetune", "retention_eval"):
        tiny.run_stage(stage, RUN)
    tiny.run_stage("compare")

    curves, about = read_table(Path(f"metrics/training/{CASE}/{RUN}.parquet"))
    losses = curves["validation_loss"].dropna()
    assert losses.min() < 0.98 * losses.iloc[0], "nothing was learned"
    assert about["best_step"]["0"] > 0
    assert set(about["seen"]) == set(methods.get("replay", {}).get("tasks", ()))

    base, tuned = (
        read_table(Path(f"metrics/records/{CASE}/{who}.parquet"))[0].query("condition == 'clean'")
        for who in ("base", RUN)
    )
    key = ["task", "split", "example_id"]
    assert sorted(map(tuple, base[key].to_numpy())) == sorted(map(tuple, tuned[key].to_numpy()))

    found = json.loads(Path("metrics/retention.json").read_text(encoding="utf-8"))[CASE][RUN]
    assert math.isfinite(found["gain"][TARGET])
    assert len(found["drop"]) == 3
    assert all(map(math.isfinite, found["drop"].values()))
