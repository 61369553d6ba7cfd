"""The supervised contrastive loss."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as toy
import torch

from stages.errors import UserError
from stages.training.methods.supervised_contrastive import supervised_contrastive

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"weight": 0.3, "temperature": 0.5}


def test_by_hand() -> None:
    """Cosines 0, -1 and 1 at temperature 1/2; the third row is alone with its label."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [2.0, 0.0]])
    found = supervised_contrastive(features, torch.tensor([7, 7, 2, 7]), 0.5)
    others = math.log(math.exp(0) + math.exp(-2) + math.exp(2))
    of_first = (others - 0 + others - 2) / 2
    assert found.tolist() == pytest.approx([of_first, math.log(3), 0.0, of_first])


def test_it_pulls_like_to_like() -> None:
    near = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    alike, unlike = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert supervised_contrastive(near, alike, 0.1).max() < 0.1
    assert supervised_contrastive(near, unlike, 0.1).min() > 5


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0, 1]])
def test_gradients_are_finite(labels: list[int]) -> None:
    features = torch.eye(4)[: len(labels)].requires_grad_()
    found = supervised_contrastive(features, torch.tensor(labels), 0.1)
    torch.autograd.backward(found.sum())
    assert features.grad is not None and features.grad.isfinite().all()
    assert (features.grad != 0).any() == (len(labels) == 3)


def test_it_is_taken_in_fp32() -> None:
    features, labels = torch.randn(8, 16), torch.tensor([0, 1] * 4)
    halved = supervised_contrastive(features.bfloat16(), labels, 0.1)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(
        halved, supervised_contrastive(features.bfloat16().float(), labels, 0.1)
    )


def test_it_stands_beside_the_loss_of_the_head(own: Path) -> None:
    model = own / "model"
    subject = toy.subject(model, retain=(), methods={"supervised-contrastive": SETTINGS})
    objective = toy.objective(subject).eval()
    (stream,) = subject.targets
    rows = stream.batch(8, 0, 0)
    output = stream.trainee(stream.rows, rows)
    assert output.labels is not None
    parts = objective(0, 0)
    assert parts[tiny.TARGET].item() == pytest.approx(output.losses.mean().item())
    alone = supervised_contrastive(output.features, output.labels, 0.5).mean().item()
    assert parts["supervised-contrastive"].item() == pytest.approx(0.3 * alone)

    with torch.autocast("cpu", torch.bfloat16):  # as in a run; only the features lose digits
        again = objective(0, 0)["supervised-contrastive"].item()
    assert again == pytest.approx(0.3 * alone, rel=0.02)


def test_a_target_without_labels_is_refused() -> None:
    methods = {"supervised-contrastive": SETTINGS}
    assert toy.misfit(methods) == []
    (reason,) = toy.misfit(methods, target="retrieval")
    assert reason == (
        "works on labels, and target has none; "
        "what would fit: targets of the kinds classification, linear-probe, pair-classification, "
        "relation"
    )


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"temperature": 0.0}, {"temperature": None}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    settings = {"supervised-contrastive": {**SETTINGS, **wrong}}
    with pytest.raises(UserError, match=rf"methods\.supervised-contrastive\.{key} = "):
        toy.methods(toy.config(settings))
