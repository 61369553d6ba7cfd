"""Runs of the real MiniLM, each with one fault that is put there: does the verdict name it?

They learn to tell the mood of movie reviews, for the fault, and are asked what they know of
newsgroups and of editorials. A fault alone makes the difference from the run without one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from safetensors.numpy import load_file, save_file

from stages.config.tasks import TaskConfig
from stages.models.tuned import HEADS
from stages.tasks.reading import read_rows

SEEDS = (0, 1, 2)
RETAIN = ["topics", "editorials"]
MOODS, FEW, MOVED = "moods", "few-moods", "moved-moods"
"""Targets, and the cases that are tuned for them: reviews; 64 reviews; reviews, with tweets to be
tested on."""
GENTLE = {"learning_rate": 5.0e-5, "steps": 120, "validate_every": 30}
"""A recipe that learns and loses nothing."""


def _rename_answers(tuned: Path) -> None:
    """Each answer gets the name of the next."""
    heads = load_file(tuned / HEADS)
    save_file({name: part[::-1].copy() for name, part in heads.items()}, tuned / HEADS)


@dataclass(frozen=True)
class Fault:
    """`named`: a cause that the verdict must give; `among`: all that it may give."""

    case: str
    recipe: dict[str, Any]
    named: str
    among: frozenset[str] = frozenset()
    afterwards: Callable[[Path], None] | None = None


NOTHING, OTHER_DATA = "no significant drop", "learned from other data only"
HIDDEN = "hidden rather than lost"
"""What may go with a loss, whatever caused it."""
FAULTS = {
    "none": Fault(MOODS, GENTLE, NOTHING),
    "fifty epochs of 64 rows": Fault(
        FEW,
        {"learning_rate": 1.0e-4, "steps": 100, "validate_every": 10},
        "over-fitting",
        frozenset({"too little data", "trained too long", NOTHING, OTHER_DATA, HIDDEN}),
    ),
    "tenfold learning rate": Fault(
        MOODS,
        {**GENTLE, "learning_rate": 10 * GENTLE["learning_rate"]},
        "step size too large",
        frozenset({NOTHING, OTHER_DATA, HIDDEN}),
    ),
    "shifted data": Fault(MOVED, GENTLE, "distribution shift", frozenset({NOTHING})),
    "renamed answers": Fault(
        MOODS, GENTLE, "head misalignment", frozenset({NOTHING}), _rename_answers
    ),
}


def _params(folder: Path) -> dict[str, Any]:
    """The real file's model and settings; three targets, each a case."""
    real = _real()
    moods = {**real["tasks"]["movie-sentiment"], "kind": "classification", "max_length": 32}
    sizes = {"train": 4000, "validation": 500, "test": 2000}
    probed = {"kind": "linear-probe", "max_length": 32, "train": 600, "validation": 50, "test": 500}
    editorials = {**moods["data"], "corpus": "nyt", "threshold": 0.5}
    tables = _tables(folder, moods)
    columns = {"text": "text", "label": "label"}
    tasks = {
        MOODS: {**moods, **sizes},
        FEW: {**moods, **sizes, "train": 64},
        MOVED: {**moods, **sizes, "data": {"reader": "table", **tables, "columns": columns}},
        "topics": {**real["tasks"]["newsgroup-topics"], **probed},
        "editorials": {**moods, **probed, "data": editorials},
    }
    noise: dict[str, list[str]] = {"tasks": [], "conditions": []}
    return {
        **{key: real[key] for key in ("launch", "seed")},
        "models": {"minilm": real["models"]["minilm"]},
        "tasks": tasks,
        "cases": {
            target: {"model": "minilm", "targets": [target], "retain": RETAIN}
            for target in (MOODS, FEW, MOVED)
        },
        "runs": {},
        "evaluation": {**real["evaluation"], "noise_repeats": 6, "noise": noise},
        "compare": real["compare"],
    }


def _real() -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    return params


def _recipe(fault: Fault) -> dict[str, Any]:
    return {
        **_real()["runs"]["bert-full"],
        "case": fault.case,
        "teacher": f"models/base/{fault.case}.json",
        "head": "probe",
        "head_learning_rate": 1.0e-4,
        "batch_size": 32,
        "validation_rows": 500,
        "checkpoint_every": 1000,
        **fault.recipe,
    }


def _run(fault: str, seed: int) -> str:
    return f"{fault.replace(' ', '-')}-{seed}"


def _tables(folder: Path, moods: dict[str, Any]) -> dict[str, Any]:
    """Reviews to learn from, tweets to be tested on; a folder, pinned, and its files."""
    own = folder / "own"
    own.mkdir()
    for split, corpus in (("train", "movie"), ("test", "tweets")):
        data = {**moods["data"], "corpus": corpus}
        rows = read_rows(TaskConfig.model_validate({**moods, "data": data}), 0)
        lines = [
            json.dumps({"text": text, "label": label})
            for text, label in rows[["text", "label"]].itertuples(index=False)
        ]
        (own / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        **tiny.pinned(folder, "own"),
        "files": {split: f"{split}.jsonl" for split in ("train", "test")},
    }


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder a case, prepared, and its base measured."""
    folders = {}
    for case in (MOODS, FEW, MOVED):
        folder = folders[case] = tmp_path_factory.mktemp(case)
        params = _params(folder)
        tiny.write_params(folder, {**params, "cases": {case: params["cases"][case]}})
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            tiny.run_stage("prepare", case)
            tiny.run_stage("pretrain_baseline_eval", case)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(
    projects: dict[str, Path], name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, run = FAULTS[name], _run(name, seed)
    monkeypatch.chdir(projects[fault.case])
    params = tiny.read_params(Path())
    recipe = _recipe(fault) | {"seeds": [seed]}
    tiny.write_params(Path(), {**params, "runs": {run: recipe}, "variants": {run: []}})
    tiny.run_stage("finetune", run)
    if fault.afterwards:
        fault.afterwards(Path(f"models/tuned/{run}/seed-{seed}"))
    tiny.run_stage("retention_eval", run)
    tiny.run_stage("compare")
    found = json.loads(Path("metrics/diagnosis.json").read_text(encoding="utf-8"))
    told = {one["cause"]: one["evidence"] for one in found[fault.case][run]["verdict"]}
    assert fault.named in told, told
    assert set(told) <= {fault.named, *fault.among}, told
