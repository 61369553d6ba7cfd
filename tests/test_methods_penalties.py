"""Methods that hold weights in place: L2-SP, L1, L2, alone and around LoRA."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as toy
import torch
from torch import Tensor, nn

from stages.errors import UserError
from stages.training.displacement import Displacement
from stages.training.methods.table import chosen
from stages.training.subject import Subject

pytestmark = pytest.mark.usefixtures("one_thread")

FREE = {"alpha": 0.3, "beta": 0.2}


@pytest.fixture
def model(own: Path) -> Path:
    return own / "model"


def perturb(parameters: Iterator[nn.Parameter] | list[nn.Parameter]) -> None:
    """What a step of training would do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def whole(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def test_l2_sp_by_hand(model: Path) -> None:
    subject = toy.subject(model, methods={"l2-sp": FREE})
    start = whole(subject.body.parameters())
    penalty = toy.objective(subject).penalties["l2-sp"]
    head = list(toy.head(subject).parameters())
    assert penalty().item() == pytest.approx(0.1 * whole(head).square().sum().item())

    perturb(subject.body.parameters())
    moved = whole(subject.body.parameters()) - start
    assert moved.abs().min() > 0, "biases and norms move too"
    expected = 0.15 * moved.square().sum() + 0.1 * whole(head).square().sum()
    assert penalty().item() == pytest.approx(expected.item(), rel=1e-5)

    torch.autograd.backward(penalty())
    gradient = whole(parameter.grad for parameter in subject.body.parameters())
    torch.testing.assert_close(gradient, 0.3 * moved, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(whole(p.grad for p in head), 0.2 * whole(head))


def test_l2_sp_is_apart_from_weight_decay(model: Path) -> None:
    """It is the same with any decay, and at the base it is nought where decay already pulls."""
    for decay in (0.0, 0.5):
        methods = {"l2-sp": {"alpha": 1.0}}
        subject = toy.subject(model, methods=methods, weight_decay=decay)
        penalty = toy.objective(subject).penalties["l2-sp"]
        assert penalty().item() == 0
        perturb(subject.body.parameters())
        assert penalty().item() > 1


def lora(
    model: Path, methods: dict[str, Any], **settings: Any
) -> tuple[Subject, dict[str, Tensor]]:
    """A subject whose adapter was trained, and what its weights were before."""
    subject = toy.subject(model, methods={**methods, "lora": {"r": 3, **settings}})
    before = {name: p.detach().clone() for name, p in subject.body.named_parameters()}
    return subject, before


def merged(subject: Subject) -> dict[str, Tensor]:
    """The weights as PEFT itself would merge them: the oracle."""
    return dict(subject.body.merge_and_unload().named_parameters())


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"lora_alpha": 7.0}])
def test_under_lora_the_distance_is_that_of_the_merged_weights(
    model: Path, settings: dict[str, Any]
) -> None:
    subject, before = lora(model, {"l2-sp": {"alpha": 0.3}}, **settings)
    objective = toy.objective(subject)
    penalty = objective.penalties["l2-sp"]
    assert penalty().item() == 0, "B is nought"
    perturb(subject.body.parameters())
    found = penalty()
    torch.autograd.backward(found)
    trained = [p for p in subject.body.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)

    after = merged(subject)
    assert set(after) == set(before)
    moved = whole(after.values()) - whole(before.values())
    assert found.item() == pytest.approx(0.15 * moved.square().sum().item(), rel=1e-4)


def test_names_under_lora_are_those_of_the_base(model: Path) -> None:
    subject = toy.subject(model, methods={"lora": {"r": 3}})
    displacement = Displacement(subject)
    names = set(dict(subject.body.named_parameters()))
    toy.objective(subject)
    found = set(displacement())
    assert found < names
    assert found == {
        f"{name}.weight"
        for name, module in subject.body.get_base_model().named_modules()
        if hasattr(module, "lora_A")
    }


def test_what_is_frozen_has_no_distance(model: Path) -> None:
    subject = toy.subject(model)
    displacement = Displacement(subject)
    frozen = list(subject.body.embeddings.parameters())
    for parameter in frozen:
        parameter.requires_grad_(False)
    found = displacement()
    assert len(found) == len(list(subject.body.parameters())) - len(frozen)
    assert not any(name.startswith("embeddings.") for name in found)


@pytest.mark.parametrize("methods", [{"l2-sp": {"alpha": 1.0}}, {"l2-sp": FREE}])
def test_where_only_the_head_trains(model: Path, methods: dict[str, Any]) -> None:
    subject = toy.subject(model, methods=methods)
    penalty = toy.objective(subject).penalties["l2-sp"]
    subject.body.requires_grad_(False)
    beta = methods["l2-sp"].get("beta", 0.0)
    expected = beta / 2 * whole(toy.head(subject).parameters()).square().sum().item()
    assert penalty().item() == pytest.approx(expected)


SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda matrix: 0.01 * matrix.abs().sum(),
    "l2": lambda m: 0.005 * m.square().sum(),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_by_hand(model: Path, name: str) -> None:
    subject = toy.subject(model, methods={name: {"strength": 0.01}})
    penalty = toy.objective(subject).penalties[name]
    head = toy.head(subject)
    matrices = [p for p in subject.body.parameters() if p.ndim > 1] + [head.weight]
    expected = SIZES[name](whole(matrices)).item()
    assert penalty().item() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(penalty())
    assert all(matrix.grad.abs().sum() > 0 for matrix in matrices)
    assert head.bias.grad is None


@pytest.mark.parametrize("name", SIZES)
def test_under_lora_a_size_is_that_of_the_merged_matrices(model: Path, name: str) -> None:
    subject, before = lora(model, {name: {"strength": 0.01}})
    found = toy.objective(subject).penalties[name]
    perturb(subject.body.parameters())
    measured = found().item()
    after, head = merged(subject), toy.head(subject)
    matrices = [after[name] for name in before if not torch.equal(after[name], before[name])]
    expected = SIZES[name](whole([*matrices, head.weight])).item()
    assert len(matrices) == 12  # six linear layers in each of two blocks
    assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["l1", "l2", "l2-sp"])
def test_what_has_no_distance_is_refused(name: str) -> None:
    settings = {"alpha": 0.1} if name == "l2-sp" else {"strength": 0.1}
    (reason,) = toy.misfit({name: settings, "lora": {"r": 2, "use_dora": True}})
    assert reason.startswith("needs the distance of each weight from the base, which lora.use_dora")
    assert reason.endswith("what would fit: no adapter, or lora without use_dora")
    assert toy.misfit({name: settings, "lora": {"r": 2}}) == []
    assert (
        toy.misfit(
            {name: settings, "replay": {"fraction": 0.1, "tasks": ["mood-words"]}},
            pool="retain/train",
        )
        == []
    )


def test_a_head_that_is_not_there_is_refused() -> None:
    methods = {"l2-sp": FREE}
    assert toy.misfit(methods) == []
    (reason,) = toy.misfit(methods, target="retrieval", head=None, head_learning_rate=None)
    assert reason == "beta is for a new head, and no target of the case has one: leave beta out"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *itertools.product(["l1", "l2"], [{"strength": 0.0}, {"strength": -1.0}, {}]),
        *itertools.product(
            ["l2-sp"], [{"alpha": 0.0}, {"alpha": 1.0, "beta": -1.0}, {"beta": 1.0}]
        ),
    ],
)
def test_settings_out_of_range(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"params\.yaml: runs\.toy\.methods\.{name}"):
        chosen("toy", toy.config({name: settings}))


def test_methods_add_up(model: Path) -> None:
    """replay + lora + l2-sp: the objective of each step is the sum of its parts, taken alone."""
    replay = {"fraction": 0.5, "tasks": ["mood-words"], "repeats": 9}
    together = {"replay": replay, "lora": {"r": 2}, "l2-sp": {"alpha": 0.5, "beta": 0.1}}
    subject = toy.subject(model, methods=together, pool="retain/train")
    objective = toy.objective(subject).eval()
    perturb(objective.parameters())
    target, replayed = objective.streams
    for step in range(3):
        parts = objective(0, step)
        assert set(parts) == {tiny.TARGET, "mood-words", "l2-sp"}
        for stream in (target, replayed):
            rows = stream.batch(8, 0, step)
            assert len(rows) == 8, "half of the rows are replayed: as many as of the target"
            alone = stream.trainee(stream.rows, rows).losses.mean()
            assert parts[stream.task].item() == pytest.approx(alone.item(), rel=1e-6)
        assert parts["l2-sp"].item() == objective.penalties["l2-sp"]().item() > 0
