"""The benchmark of training: both sides do the same work, and are told apart rightly."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as toy
from benchmarks import training
from benchmarks.trained import ours, trainer

from stages.errors import UserError

TARGETS = {"encoder": tiny.TARGET, "causal": toy.TALES}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", TARGETS)
def test_both_sides_do_the_same_work(
    kind: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"steps": 5, "validate_every": 5, "checkpoint_every": 5}
    recipe = toy.subject(models[kind], targets=(TARGETS[kind],), **settings).recipe
    both = ours(recipe), trainer(recipe)
    assert both[0].losses == pytest.approx(both[1].losses, abs=1e-4)
    assert both[0].losses[-1] != both[0].losses[0]
    assert both[0].labelled == both[1].labelled
    assert both[0].tokens == both[1].tokens
    # Trainer's causal model applies its head to every position.
    assert (both[0].operations < both[1].operations) == (kind == "causal")

    found = training.summary({training.OURS: [both[0]], "Trainer, fp32": [both[1]]})
    assert found[training.OURS]["ratio"] == 1
    assert found["Trainer, fp32"]["ratio"] == pytest.approx(both[1].seconds / both[0].seconds)
    assert found["Trainer, fp32"]["apart"] < 1e-4
    lines = training.table(found, "tiny").splitlines()
    assert lines[0] == "tiny"
    assert [line.split("  ")[0] for line in lines[2:4]] == list(found)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(UserError, match="--steps 1: the first is not timed"):
        training.main("--run", "gpt-full", "--steps", "1")


def test_a_run_is_measured_without_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.ROOT)
    config = training._config("bert-replay", 7, 5)
    assert (config.methods, config.pool) == ({}, "target")
    assert (config.steps, config.batch_size, config.validate_every) == (7, 5, 7)
    assert training._config("gpt-full", 7, None).batch_size > 0
