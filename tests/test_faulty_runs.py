"""Runs of MiniLM with one known fault each, through the stages: the verdict names the fault.

Sentences rated positive or negative are learned, while sentences of other sources and the topics of
newsgroups are to be kept. Each fault is there in three runs that differ by their seed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from safetensors.torch import load_file, save_file

from stages import check
from stages.sources.pinned import open_source
from stages.tasks.vader import read_vader

SEEDS = (0, 1, 2)
CLEAN: dict[str, Any] = {
    "learning_rate": 3.0e-5,
    "steps": 80,
    "batch_size": 16,
    "validate_every": 20,
    "validation_rows": 200,
    "checkpoint_every": 1000,
}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no significant drop": ("movie", {}),
    "over-fitting": ("few", {"steps": 200, "validate_every": 40, "learning_rate": 1.0e-4}),
    "step size too large": ("movie", {"learning_rate": 1.0e-3}),
    "distribution shift": ("shifted", {}),
    "head misalignment": ("movie", {}),
}
"""By what a verdict should say first: the target, and what is changed of CLEAN."""
FOLLOWS = {
    "over-fitting": {"too little data", "trained too long"},
    "step size too large": {"hidden rather than lost", "learned from other data only"},
}
"""What is rightly said after it."""


def _run(cause: str, seed: int) -> str:
    return f"{cause.replace(' ', '-')}-{seed}"


def _tables(project: Path, pin: dict[str, str]) -> None:
    """Sentences of films; and tweets to learn from, with editorials to be tested on."""
    source = open_source(pin["source"], sha256=pin["sha256"])
    tables = {corpus: read_vader(source, corpus, 1.0) for corpus in ("movie", "tweets", "nyt")}
    for name, rows in {
        "movie/all": tables["movie"],
        "shifted/train": tables["tweets"],
        "shifted/test": tables["nyt"],
    }.items():
        path = project / "own" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_json(path, orient="records", lines=True)


def _params(project: Path) -> dict[str, Any]:
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    sentiment, topics = real["tasks"]["movie-sentiment"], real["tasks"]["newsgroup-topics"]
    amazon = {**sentiment["data"], "corpus": "amazon"}
    sizes = {"train": 1200, "validation": 200, "test": 500}
    _tables(project, {key: sentiment["data"][key] for key in ("source", "sha256")})

    def target(folder: str, **files: Any) -> dict[str, Any]:
        data = {
            "reader": "table",
            **tiny.pinned(project, f"own/{folder}"),
            "columns": {"text": "text", "label": "label"},
        }
        return {**sentiment, "kind": "classification", "data": data | files, **sizes}

    halves = {"files": {"train": "train.jsonl", "test": "test.jsonl"}}
    tasks = {
        "movie": target("movie"),
        "few": target("movie") | {"train": 64},
        "shifted": target("shifted", **halves),
        "amazon": {**sentiment, "data": amazon, **sizes},
        "topics": topics | {"test": 500},
    }
    plain = real["runs"]["bert-full"] | CLEAN
    return {
        **real,
        "models": {"minilm": real["models"]["minilm"]},
        "tasks": tasks,
        "cases": {
            name: {"model": "minilm", "targets": [name], "retain": ["amazon", "topics"]}
            for name in ("movie", "few", "shifted")
        },
        "runs": {
            _run(cause, seed): plain
            | changes
            | {"case": case, "teacher": f"models/base/{case}.json", "seeds": [seed]}
            for cause, (case, changes) in FAULTS.items()
            for seed in SEEDS
        },
        "evaluation": {
            **real["evaluation"],
            "noise": {"tasks": [], "conditions": []},
        },
        "compare": {**real["compare"], "resamples": 1000},
    }


def _turn_head(run: str) -> None:
    """The names of the trained head's two answers change places."""
    path = next(Path(f"models/tuned/{run}").glob("seed-*")) / "heads.safetensors"
    save_file({name: part.flip(0) for name, part in load_file(path).items()}, path)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """By run."""
    project = tmp_path_factory.mktemp("faulty")
    params = _params(project)
    tiny.write_params(project, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        check.check()
        for case in params["cases"]:
            tiny.run_stage("prepare", case)
            tiny.run_stage("pretrain_baseline_eval", case)
        for run in params["runs"]:
            tiny.run_stage("finetune", run)
            if run.startswith("head"):
                _turn_head(run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
        told = json.loads(Path("metrics/diagnosis.json").read_text(encoding="utf-8"))
    return {run: one["verdict"] for case in told.values() for run, one in case.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cause", FAULTS)
def test_the_fault_is_named_and_no_other(
    cause: str, seed: int, verdicts: dict[str, list[dict[str, str]]]
) -> None:
    first, *others = [one["cause"] for one in verdicts[_run(cause, seed)]]
    assert first == cause
    assert set(others) <= FOLLOWS.get(cause, set()) | {"no significant drop"}
