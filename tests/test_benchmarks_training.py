"""The benchmark of training: both sides do the same work, and are told apart rightly."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as toy
from benchmarks import training
from benchmarks.trained import ours, profiled, trainer

from stages.errors import UserError
from stages.storage import read_json, write_json

TARGETS = {"encoder": tiny.TARGET, "causal": toy.TALES}


def _without_dropout(model: Path, copy: Path) -> Path:
    """Rows that stand otherwise are not dropped alike."""
    shutil.copytree(model, copy, dirs_exist_ok=True)
    config = read_json(copy / "config.json")
    dropouts = {key: 0.0 for key in config if "drop" in key and config[key] is not None}
    write_json(copy / "config.json", {**config, **dropouts})
    return copy


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", TARGETS)
def test_both_sides_do_the_same_work(
    kind: str,
    models: dict[str, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"steps": 5, "validate_every": 5, "checkpoint_every": 5}
    whole = toy.subject(models[kind], targets=(TARGETS[kind],), **settings).recipe
    recipe = replace(whole, base=_without_dropout(whole.base, tmp_path_factory.mktemp(kind)))
    both = ours(recipe), trainer(recipe)
    assert both[0].losses == pytest.approx(both[1].losses, abs=1e-4)
    assert both[0].losses[-1] != both[0].losses[0]
    assert both[0].labelled == both[1].labelled
    # The causal rows are of many lengths; Trainer applies the head to all that it reads of them.
    assert (both[0].tokens < both[1].tokens) == (kind == "causal")
    assert (both[0].operations < both[1].operations) == (kind == "causal")

    found = training.summary({training.OURS: [both[0]], "Trainer, fp32": [both[1]]})
    assert found[training.OURS]["ratio"] == 1
    assert found["Trainer, fp32"]["ratio"] == pytest.approx(both[1].seconds / both[0].seconds)
    assert found["Trainer, fp32"]["apart"] < 1e-4
    lines = training.table(found, "tiny").splitlines()
    assert lines[0] == "tiny"
    assert [line.split("  ")[0] for line in lines[2:4]] == list(found)

    _, operators = profiled(recipe)
    assert {"aten::mm", "aten::addmm"} & set(operators)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(UserError, match="--steps 1: the first is not timed"):
        training.main("--run", "gpt-full", "--steps", "1")
    for option in ("--threads", "--rounds"):
        with pytest.raises(UserError, match=f"{option} 0: give 1 or more"):
            training.main("--run", "gpt-full", option, "0")


def test_a_run_is_measured_without_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.ROOT)
    config = training._config("bert-replay", 7, 5)
    assert (config.methods, config.pool) == ({}, "target")
    assert (config.steps, config.batch_size, config.validate_every) == (7, 5, 7)
    assert training._config("gpt-full", 7, None).batch_size > 0
