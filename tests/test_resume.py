"""Training that is interrupted, repeated, or goes wrong."""

import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from faults_page import Fault
from torch import Tensor

from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.records import read_table
from stages.storage import read_json, sha256_file
from stages.training import loop, losses, order
from stages.training.objective import Objective
from stages.training.optimizer import make_optimizer
from stages.training.schedule import rate_factor

CASE = tiny.CASE


def _hashes(project: Path, run: str) -> dict[str, str]:
    folder = project / "models/tuned" / run
    found = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert any(name.endswith("heads.safetensors") for name in found)
    assert len(found) >= 3
    return found


def _left(project: Path) -> list[Path]:
    return [path for path in (project / ".scratch").rglob("*") if path.is_file()]


def _curves(project: Path, run: str) -> Any:
    return read_table(project / f"metrics/training/{CASE}/{run}.parquet")[0]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained from now on."""
    steps: list[int] = []
    original = rate_factor

    def counted(config: RunConfig, step: int, losses: Sequence[float]) -> float:
        steps.append(step)
        return original(config, step, losses)

    monkeypatch.setattr(loop, "rate_factor", counted)
    return steps


def _start(project: Path, environment: dict[str, str], run: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "stages.finetune", run],
        cwd=project,
        env={**environment, "PYTHONPATH": str(tiny.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_kill_and_resume_ends_in_the_same_weights(
    bench: Path,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    seen: list[int],
) -> None:
    steps, every = 120, 20
    tiny.edit_params(bench, runs__full__steps=steps, runs__full__checkpoint_every=every)
    shutil.rmtree(bench / "models/tuned/full")
    whole, other = tmp_path / "whole", tmp_path / "other"
    shutil.copytree(bench, whole)

    process = _start(bench, environment, "full")
    deadline = time.monotonic() + 120
    while not _checkpoints(bench) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL, output
    assert not (bench / "models/tuned/full").exists()
    (checkpoint,) = _checkpoints(bench)
    reached = torch.load(checkpoint, weights_only=True)["progress"]["step"]
    assert 0 < reached < steps
    assert reached % every == 0
    shutil.copytree(bench, other)

    tiny.run_stage("finetune", "full")
    assert seen == list(range(reached, steps)), "it began anew"
    assert _left(bench) == []

    seen.clear()
    monkeypatch.chdir(whole)
    tiny.run_stage("finetune", "full")
    assert seen == list(range(steps))
    assert _hashes(bench, "full") == _hashes(whole, "full")
    assert _curves(bench, "full").equals(_curves(whole, "full"))

    # The control, and at once: another learning rate finds no checkpoint of its own.
    monkeypatch.chdir(other)
    tiny.edit_params(other, runs__full__learning_rate=0.004)
    with pytest.raises(_StopError):
        _stop_at(monkeypatch, 0, 0)
        tiny.run_stage("finetune", "full")
    assert other / checkpoint.relative_to(bench) in _left(other)
    assert len({path.parent for path in _left(other)}) == 1


def _checkpoints(project: Path) -> list[Path]:
    return sorted((project / ".scratch").glob("*/seed-*.pt"))


class _StopError(Exception):
    pass


def _stop_at(patch: pytest.MonkeyPatch, seed: int, step: int) -> None:
    """From now on training ends, as if it were killed, before this step of this seed."""
    original = order.seed_step

    def seed_step(seed_: int, step_: int, process: int) -> None:
        if (seed_, step_) == (seed, step):
            raise _StopError
        original(seed_, step_, process)

    patch.setattr(order, "seed_step", seed_step)


def test_two_seeds_and_an_adapter_resume_too(
    bench: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int]
) -> None:
    """Interrupted in the second seed; the first goes on from its own last checkpoint."""
    tiny.edit_params(bench, runs__lora__seeds=[0, 1], runs__lora__methods={"lora": DROPPING})
    tiny.run_stage("finetune", "lora")
    whole, curves = _hashes(bench, "lora"), _curves(bench, "lora")
    config = read_run("lora")
    assert seen == [*range(config.steps)] * 2
    first, second = (
        {name: sha for name, sha in whole.items() if name.startswith(f"seed-{seed}/")}
        for seed in (0, 1)
    )
    assert len(first) == len(second)
    alike = {name for name, sha in first.items() if sha in second.values()}
    told = {"seed-0/adapter_config.json", "seed-0/base.json", "seed-0/trained.json"}
    assert alike == told, "the seeds train alike"

    shutil.rmtree(bench / "models/tuned/lora")
    with monkeypatch.context() as patch, pytest.raises(_StopError):
        _stop_at(patch, 1, config.steps - 3)
        tiny.run_stage("finetune", "lora")
    assert not (bench / "models/tuned/lora").exists()
    assert len(_checkpoints(bench)) == 2

    seen.clear()
    tiny.run_stage("finetune", "lora")
    last = (config.steps - 1) // config.checkpoint_every * config.checkpoint_every
    assert seen == [*range(last, config.steps)] * 2
    assert _hashes(bench, "lora") == whole
    assert _curves(bench, "lora").equals(curves)
    assert _left(bench) == []

    tiny.run_stage("retention_eval", "lora")
    tiny.run_stage("compare")
    records, _ = read_table(bench / f"metrics/records/{CASE}/lora.parquet")
    assert set(records["seed"]) == {0, 1}
    assert records.groupby("seed").size().nunique() == 1
    target = records[records["task"] == tiny.TARGET]
    of_seed = [rows.sort_values("example_id")["nll"] for _, rows in target.groupby("seed")]
    assert of_seed[0].tolist() != of_seed[1].tolist()
    change = read_json(bench / "metrics/scores.json")[CASE]["lora"][tiny.TARGET]["gain"]
    assert math.isfinite(change["seed_spread"])
    assert len(change["mcnemar_p"]) == 2


def test_a_compiled_run_resumes_to_rounding(
    bench: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int]
) -> None:
    params = tiny.read_params(bench)
    steps = params["runs"]["full"]["steps"]
    params["runs"]["full"] |= {"compile": True, "checkpoint_every": 4}
    tiny.write_params(bench, params)

    with torch._inductor.config.patch(force_disable_caches=True):
        tiny.run_stage("finetune", "full")
        whole = _curves(bench, "full")
        shutil.rmtree(bench / "models/tuned/full")
        with monkeypatch.context() as patch, pytest.raises(_StopError):
            _stop_at(patch, 0, 6)
            tiny.run_stage("finetune", "full")
        torch.compiler.reset()  # as in a new process
        seen.clear()
        tiny.run_stage("finetune", "full")
    assert seen == list(range(4, steps))
    np.testing.assert_allclose(_curves(bench, "full"), whole, rtol=1e-5, atol=1e-6)


def test_the_best_weights_wait_on_the_disk(
    bench: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int]
) -> None:
    """Those of the last resume point and the best since; without them training begins anew."""
    tiny.edit_params(bench, runs__full__steps=30, runs__full__validate_every=1)
    slow = {"learning_rate": 1e-4, "head_learning_rate": 1e-3, "checkpoint_every": 10}
    tiny.edit_params(bench, **{f"runs__full__{key}": value for key, value in slow.items()})
    tiny.run_stage("finetune", "full")
    whole = _hashes(bench, "full")
    looks = _curves(bench, "full")["validation_loss"].tolist()
    at = next(step for step in range(14, 20) if min(looks[: step + 1]) < min(looks[:11]))
    kept = {looks.index(min(looks[:11])), looks.index(min(looks[: at + 1]))}

    shutil.rmtree(bench / "models/tuned/full")
    with monkeypatch.context() as patch, pytest.raises(_StopError):
        _stop_at(patch, 0, at)
        tiny.run_stage("finetune", "full")
    best = sorted((bench / ".scratch").glob("*/best-0-*.pt"))
    assert {int(path.stem.rsplit("-", 1)[1]) for path in best} == kept
    assert len(_left(bench)) == 2 * (1 + len(kept)), "a hash beside each"

    (bench / ".scratch").rename(bench / "aside")
    for lost, steps in [(None, range(10, 30)), (min(kept), range(30))]:
        shutil.copytree(bench / "aside", bench / ".scratch", dirs_exist_ok=True)
        for path in (bench / ".scratch").glob(f"*/best-0-{lost}.pt"):
            path.unlink()
        seen.clear()
        tiny.run_stage("finetune", "full")
        assert seen == list(steps)
        assert _hashes(bench, "full") == whole
        assert _left(bench) == []


DROPPING = {"r": 2, "lora_dropout": 0.1}


@pytest.mark.parametrize("run", ["full", "lora"])
def test_what_is_kept_is_the_best_look(walked: tiny.Walk, run: str) -> None:
    curves, about = read_table(walked.path / f"metrics/training/{CASE}/{run}.parquet")
    config = RunConfig(**tiny.read_params(walked.path)["runs"][run])
    looks = curves[curves["validation_loss"].notna()]
    every = config.validate_every
    assert looks["step"].tolist() == list(range(0, config.steps + 1, every))
    best = int(looks["validation_loss"].to_numpy().argmin())
    assert about["best_step"] == {"0": best * every}
    rates = [config.learning_rate * rate_factor(config, step) for step in range(config.steps)]
    assert curves["learning_rate"].dropna().tolist() == pytest.approx(rates)


def test_the_best_look_is_what_is_written(bench: Path) -> None:
    """The scored model's loss on validation is the smallest of the curve, not the last."""
    tiny.edit_params(
        bench,
        # A rate that rises to the end spoils what it first learned, whichever rows come first.
        runs__full__learning_rate=0.2,
        runs__full__warmup=0.95,
        runs__full__steps=160,
        runs__full__validate_every=10,
        runs__full__validation_rows=1000,
        runs__full__precision="fp32",
        evaluation__precision="fp32",
    )
    tiny.run_stage("finetune", "full")
    tiny.run_stage("retention_eval", "full")
    curves, about = read_table(bench / f"metrics/training/{CASE}/full.parquet")
    losses_seen = curves["validation_loss"].dropna()
    assert 0 < about["best_step"]["0"] < 160
    assert losses_seen.iloc[-1] > losses_seen.min() + 0.1
    records, _ = read_table(bench / f"metrics/records/{CASE}/full.parquet")
    of_target = (records["task"] == tiny.TARGET) & (records["split"] == "validation")
    assert records[of_target]["nll"].mean() == pytest.approx(losses_seen.min(), rel=1e-4)


@pytest.fixture
def bad_loss(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Set `step` (from 1) and `value`: that training step's loss, or validation if `looking`."""
    plan: dict[str, Any] = {"looking": False}
    original = losses.classification
    count = 0

    def classification(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        nonlocal count
        loss = original(logits, labels, smoothing)
        training = torch.is_grad_enabled()
        count += training
        if count == plan["step"] and training != plan["looking"]:
            loss = loss * float(plan["value"])
        return loss

    monkeypatch.setattr(losses, "classification", classification)
    yield plan


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error(
    bench: Path, bad_loss: dict[str, Any], value: float, fault: Fault
) -> None:
    shutil.rmtree(bench / "models/tuned/full")
    bad_loss.update(step=7, value=value)
    with pytest.raises(UserError, match=rf"^step 7: the loss is {value}, from color-qa "):
        tiny.run_stage("finetune", "full")
    assert not (bench / "models/tuned/full").exists()
    fault(f"a training loss that is {value}", "exit 1, one line with step and part of the loss")


def test_a_validation_loss_that_is_not_finite_is_an_error(
    bench: Path, bad_loss: dict[str, Any], fault: Fault
) -> None:
    bad_loss.update(step=20, value=math.nan, looking=True)
    with pytest.raises(UserError, match=r"^step 20: "):
        tiny.run_stage("finetune", "full")
    fault("a validation loss that is nan", "exit 1, one line with the step")


def test_a_look_names_the_tensor_that_is_not_finite(
    bench: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    name = "encoder.layer.1.output.dense"

    def hooked(objective: Objective, *rates: float) -> Any:
        (layer,) = (one for full, one in objective.named_modules() if full.endswith(name))
        layer.register_forward_hook(
            lambda module, _, output: output if module.training else output * math.nan
        )
        return make_optimizer(objective, *rates)

    monkeypatch.setattr(loop, "make_optimizer", hooked)
    shutil.rmtree(bench / "models/tuned/full")
    said = rf"^step 0: the (train|validation) loss is nan, from \S*{re.escape(name)} \(\d+ of \d+ "
    with pytest.raises(UserError, match=said):
        tiny.run_stage("finetune", "full")
    fault("an output that is not finite in a look at the losses", "exit 1, one line: step, tensor")


def test_a_gradient_that_is_not_finite_is_an_error(
    bench: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The loss is finite, and no other step is touched."""
    name = "encoder.layer.1.output.dense.weight"
    steps: list[int] = []
    seed_step = order.seed_step

    def told(seed: int, step: int, process: int) -> None:
        steps.append(step)
        seed_step(seed, step, process)

    def hooked(objective: Objective, *rates: float) -> Any:
        (weight,) = (one for full, one in objective.named_parameters() if full.endswith(name))
        weight.register_hook(  # type: ignore[no-untyped-call]
            lambda found: found * (math.inf if steps[-1] == 6 else 1.0)
        )
        return make_optimizer(objective, *rates)

    monkeypatch.setattr(order, "seed_step", told)
    monkeypatch.setattr(loop, "make_optimizer", hooked)
    shutil.rmtree(bench / "models/tuned/full")
    said = (
        rf"^step 7: the norm of the gradient is (nan|inf), from \S*{re.escape(name)} \(\d+ of 2048 "
    )
    with pytest.raises(UserError, match=said):
        tiny.run_stage("finetune", "full")
    assert not (bench / "models/tuned/full").exists()
    fault("a gradient that is not finite, under a finite loss", "exit 1, one line: step, tensor")
