"""Every method by name, on the bundled models and their cases, through the stages.

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
from benchmarks.tried import MEDICAL, NEWS, Tried

from stages import check
from stages.records import read_table

RUN, TEACHER = "tried", "bert-full"
BERT, GPT = "medical-bert", "news-gpt"
PLAIN = {BERT: "bert-full", GPT: "gpt-full"}
"""Runs of params.yaml without methods."""
CASES: dict[str, dict[str, Any]] = {
    BERT: {
        "target": {"train": 320, "validation": 60, "test": 60},
        "retain": {"train": 200, "validation": 20, "test": 40},
        "run": {"steps": 16, "batch_size": 16, "validate_every": 8, "validation_rows": 60},
    },
    GPT: {
        "target": {"train": 60, "validation": 12, "test": 40},
        "retain": {"train": 40, "validation": 10, "test": 12},
        "run": {"steps": 6, "batch_size": 4, "validate_every": 3, "validation_rows": 12},
    },
}
ENCODER_HAS = {method for methods, _ in MEDICAL.values() for method in methods}
TRIED = [(BERT, name, tried) for name, tried in MEDICAL.items()] + [
    (GPT, name, tried) for name, tried in NEWS.items() if not ENCODER_HAS.issuperset(tried[0])
]
"""Causal methods where an encoder cannot have them."""


def _params(case: str, tried: Tried) -> dict[str, Any]:
    """The real file, one case of it with fewer rows, and one run of a few steps."""
    methods, settings = tried
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    del real["sweep"]
    about, sizes = real["cases"][case], CASES[case]
    rows = dict.fromkeys(about["retain"], sizes["retain"])
    rows |= dict.fromkeys(about["targets"], sizes["target"])
    plain = {**real["runs"][PLAIN[case]], **sizes["run"], "checkpoint_every": 1000}
    drawn = {"draw": settings.get("draw")}
    teacher = {TEACHER: plain | drawn} if TEACHER in settings.get("teacher", "") else {}
    return {
        **real,
        "tasks": {**real["tasks"], **{task: real["tasks"][task] | n for task, n in rows.items()}},
        "cases": {case: about},
        "runs": {**teacher, RUN: {**plain, "methods": methods, **settings}},
        "variants": {run: [] for run in (*teacher, RUN)},
        "evaluation": {
            **real["evaluation"],
            "noise_repeats": 2,
            "noise": {"tasks": about["targets"][:1] if case == BERT else [], "conditions": []},
        },
        "compare": {**real["compare"], "resamples": 200},
    }


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The cases prepared, and their bases measured."""
    folders = {case: tmp_path_factory.mktemp(case) for case in CASES}
    for case, folder in folders.items():
        tiny.write_params(folder, _params(case, ({}, {})))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            tiny.run_stage("prepare", case)
            tiny.run_stage("pretrain_baseline_eval", case)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name", "tried"), TRIED, ids=lambda one: str(one)[:24])
def test_a_method_trains_and_is_scored(
    projects: dict[str, Path], case: str, name: str, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _params(case, tried)
    tiny.write_params(projects[case], params)
    monkeypatch.chdir(projects[case])
    check.check()
    for run in params["runs"]:
        tiny.run_stage("finetune", run)
        tiny.run_stage("retention_eval", run)
    tiny.run_stage("compare")

    curves, about = read_table(Path(f"metrics/training/{case}/{RUN}.parquet"))
    losses = curves["validation_loss"].dropna()
    assert losses.min() < losses.iloc[0], "nothing was learned"
    assert about["best_step"]["0"] > 0
    seen = {task for method in tried[0].values() for task in method.get("tasks", ())}
    assert set(about["seen"]) == seen

    base, tuned = (
        read_table(Path(f"metrics/records/{case}/{who}.parquet"))[0].query("condition == 'clean'")
        for who in ("base", RUN)
    )
    key = ["task", "split", "example_id"]
    assert sorted(map(tuple, base[key].to_numpy())) == sorted(map(tuple, tuned[key].to_numpy()))

    found = json.loads(Path("metrics/retention.json").read_text(encoding="utf-8"))[case][RUN]
    assert all(map(math.isfinite, found["gain"].values()))
    assert len(found["drop"]) == len(params["cases"][case]["retain"])
    assert all(map(math.isfinite, found["drop"].values()))
