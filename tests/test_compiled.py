"""Layers by torch.compile: what they compute, and where they cannot be had."""

from pathlib import Path

import pytest
import tiny_training as small
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch._dynamo.utils import counters

from stages.errors import UserError
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


@pytest.mark.parametrize(("kind", "methods"), [("causal", [Lora(r=2)]), ("encoder", [])])
def test_gradients_are_those_of_layers_as_written(
    models: dict[str, Path], kind: str, methods: list[Method]
) -> None:
    targets = (small.TALES if kind == "causal" else small.LABELLED,)
    taken = []
    for wanted in (False, True):
        counters.clear()
        subject, objective = small.composed(models[kind], methods, targets=targets, compile=wanted)
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


def test_gradients_are_of_what_was_not_dropped(encoder: Path) -> None:
    """Of the same rows: drawn anew by each seed, and the slope of the loss that has the draw."""
    _, objective = small.composed(encoder, [], targets=(small.LABELLED,), compile=True)
    objective.train()

    def loss(seed: int) -> Tensor:
        order.seed_step(seed, 0, 0)
        return sum(objective(0, 0).values(), torch.zeros(()))

    assert float(loss(0)) == float(loss(0))
    assert float(loss(0)) != float(loss(1))
    torch.autograd.backward(loss(0))
    weight = next(one for name, one in objective.named_parameters() if "layer.0" in name)
    assert weight.grad is not None
    steepest = float(weight.grad.norm())
    assert steepest > 0
    ends = []
    for length in (1e-2, -1e-2):
        with torch.no_grad():
            weight.add_(weight.grad, alpha=length / steepest)
            ends.append(float(loss(0)))
            weight.sub_(weight.grad, alpha=length / steepest)
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(steepest, rel=0.02)


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


def test_a_layer_is_compiled_or_checkpointed() -> None:
    told = "compile = True: not with gradient_checkpointing, which calls layers as they are written"
    with pytest.raises(ValueError, match=told):
        small.config(compile=True, gradient_checkpointing=True)
