"""Layers by torch.compile: what they compute, and where they cannot be had."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as small
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch._dynamo.utils import counters

from stages.errors import UserError
from stages.storage import sha256_file
from stages.training import compiled, order
from stages.training.loop import _look
from stages.training.methods.lora import Lora
from stages.training.methods.method import Method
from stages.training.objective import Objective


def _gradients(objective: Objective, step: int) -> dict[str, Tensor]:
    objective.zero_grad()
    torch.autograd.backward(list(small.parts(objective, step).values()))
    named = objective.named_parameters()
    return {name: one.grad.clone() for name, one in named if one.grad is not None}


@pytest.mark.parametrize(
    ("kind", "methods", "settings"),
    [("causal", [Lora(r=2)], {}), ("encoder", [], {"gradient_checkpointing": True})],
)
def test_gradients_are_those_of_layers_as_written(
    models: dict[str, Path], kind: str, methods: list[Method], settings: dict[str, Any]
) -> None:
    targets = (small.TALES if kind == "causal" else small.LABELLED,)
    taken = []
    for wanted in (False, True):
        counters.clear()
        subject, objective = small.composed(
            models[kind], methods, targets=targets, compile=wanted, **settings
        )
        objective.eval()  # the compiler draws what is dropped otherwise
        taken.append([_gradients(objective, step) for step in range(3)])
        graphs = counters["stats"]["unique_graphs"]
        assert (graphs > 0) == wanted
        looks = [(one, one.rows, list(range(10))) for one in subject.targets]
        assert _look(subject, objective, looks) > 0
        assert counters["stats"]["unique_graphs"] == graphs, "a look compiles nothing"
    for expected, found in zip(*taken, strict=True):
        assert expected.keys() == found.keys()
        for name, one in expected.items():
            torch.testing.assert_close(found[name], one, rtol=1e-4, atol=1e-6)
    assert any(float(one.abs().max()) > 0 for one in taken[0][0].values())


def test_what_is_dropped_comes_of_the_step(encoder: Path) -> None:
    _, objective = small.composed(encoder, [], targets=(small.LABELLED,), compile=True)
    objective.train()
    first, other, again = (_gradients(objective, step) for step in (0, 1, 0))
    name = next(name for name in first if "layer.0" in name)
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_a_compiled_run_resumes_bit_for_bit(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> dict[str, str]:
        folder = bench / "models/tuned/full"
        return {path.name: sha256_file(path) for path in sorted(folder.rglob("*.safetensors"))}

    tiny.run_stage("finetune", "full")
    as_written = weights()
    params = tiny.read_params(bench)
    params["runs"]["full"] |= {"compile": True, "checkpoint_every": 4}
    tiny.write_params(bench, params)
    tiny.run_stage("finetune", "full")
    whole = weights()
    assert whole.keys() == as_written.keys()
    assert whole != as_written, "nothing was compiled"

    shutil.rmtree(bench / "models/tuned/full")
    original = order.seed_step
    with monkeypatch.context() as patch:

        def stop(seed: int, step: int, process: int) -> None:
            if step == 6:
                raise KeyboardInterrupt
            original(seed, step, process)

        patch.setattr(order, "seed_step", stop)
        with pytest.raises(KeyboardInterrupt):
            tiny.run_stage("finetune", "full")
    torch.compiler.reset()  # as in a new process
    tiny.run_stage("finetune", "full")
    assert weights() == whole


def _compile(encoder: Path) -> None:
    small.composed(encoder, [], targets=(small.LABELLED,), compile=True)


def test_where_it_cannot_be_had_the_user_is_told(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "GradientCheckpointingLayer", torch.nn.LSTM)
        with pytest.raises(UserError, match=r"toy.compile = True: not known of a model of type 'b"):
            _compile(encoder)
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
        with pytest.raises(UserError, match=r"^runs.toy.compile = True: not under FSDP: leave"):
            _compile(encoder)
    torch.compiler.reset()
    nowhere = {"cpp.cxx": ("/nowhere/c++",), "force_disable_caches": True}
    told = r"^runs.toy.compile = True: torch.compile fails here \(.*c\+\+.*\): leave it out$"
    with torch._inductor.config.patch(nowhere), pytest.raises(UserError, match=told):
        _compile(encoder)
