"""FGM: the adversarial move, and that the weights do not move with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_causal
import tiny_training as toy
import torch
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.texts import pad
from stages.training.encoder import EncoderRows
from stages.training.methods.fgm import adversarial
from stages.training.objective import Batch, Objective
from stages.training.subject import Subject

pytestmark = pytest.mark.usefixtures("one_thread")

EPSILON = 0.7


def make(folder: Path, *targets: str, **methods: Any) -> tuple[Subject, Objective]:
    subject = toy.subject(
        folder, targets or (tiny.TARGET,), (), methods={"fgm": {"epsilon": EPSILON}, **methods}
    )
    return subject, toy.objective(subject).eval()


def a_batch(subject: Subject, rows: Sequence[int] = range(6)) -> Batch:
    (stream,) = subject.targets
    return Batch(stream, rows, stream.trainee(stream.rows, rows), 1 / len(rows))


def embeddings(subject: Subject) -> nn.Module:
    found: nn.Module = subject.body.get_input_embeddings()
    return found


def hooks(subject: Subject) -> int:
    return sum(len(module._forward_hooks) for module in subject.body.modules())


def test_the_loss_of_moved_embeddings(own: Path) -> None:
    """The same from `inputs_embeds`, which needs no hook."""
    subject, objective = make(own / "model")
    (stream,) = subject.targets
    assert isinstance(stream.rows, EncoderRows) and stream.rows.labels
    ids, mask = pad(stream.rows.texts[0].ids[:6], 0, torch.device("cpu"))
    labels = torch.tensor(stream.rows.labels[:6])

    def losses(embedded: Tensor) -> Tensor:
        hidden = subject.body(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return nn.functional.cross_entropy(toy.head(subject)(pooled), labels, reduction="none")

    embedded = embeddings(subject)(ids)
    moved = []
    for text in range(6):  # each for itself: no other text has a part in its move
        (gradient,) = torch.autograd.grad(losses(embedded)[text], embedded)
        moved.append(embedded[text] + EPSILON * gradient[text] / gradient[text].norm())
    expected = losses(torch.stack(moved)).mean()

    batch = a_batch(subject)
    found = objective.terms["fgm"](batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() > 1.05 * batch.mean(batch.output.losses).item(), "it is adversarial"


def test_the_weight_counts(own: Path) -> None:
    values = []
    for weight in (1.0, 0.25):
        subject, objective = make(own / "model", fgm={"epsilon": EPSILON, "weight": weight})
        values.append(objective.terms["fgm"](a_batch(subject)).item())
    assert values[1] == pytest.approx(values[0] / 4)


def test_a_move_is_as_long_as_epsilon_and_padding_stays(own: Path) -> None:
    subject, _ = make(own / "model")
    (stream,) = subject.targets
    assert isinstance(stream.rows, EncoderRows)
    stream.rows.texts[0].ids[2] = stream.rows.texts[0].ids[2][:5]
    batch = a_batch(subject)
    (move,) = adversarial(batch, embeddings(subject), EPSILON)
    assert move.flatten(1).norm(dim=1).tolist() == pytest.approx([EPSILON] * 6)
    assert move[2, :5].abs().min() > 0
    assert (move[2, 5:] == 0).all()
    assert not move.requires_grad


def test_each_column_moves_by_itself(own: Path) -> None:
    subject, objective = make(own / "model", tiny.RETRIEVAL)
    batch = a_batch(subject)
    moves = adversarial(batch, embeddings(subject), EPSILON)
    assert [move.flatten(1).norm(dim=1).tolist() for move in moves] == [
        pytest.approx([EPSILON] * 6)
    ] * 2
    assert moves[0].shape != moves[1].shape
    assert objective.terms["fgm"](batch).item() > batch.mean(batch.output.losses).item()


def test_a_causal_model(tmp_path: Path) -> None:
    tiny_causal.write_model(tmp_path)
    subject, objective = make(tmp_path, toy.TALES)
    batch = a_batch(subject)
    (move,) = adversarial(batch, embeddings(subject), EPSILON)
    assert move.flatten(1).norm(dim=1).tolist() == pytest.approx([EPSILON] * 6)
    assert objective.terms["fgm"](batch).item() > batch.mean(batch.output.losses).item()


@pytest.mark.parametrize("lora", [{}, {"lora": {"r": 2}}])
def test_weights_are_untouched_and_learn(own: Path, lora: dict[str, Any]) -> None:
    subject, objective = make(own / "model", **lora)
    before = {name: p.detach().clone() for name, p in subject.body.named_parameters()}
    found = objective.terms["fgm"](a_batch(subject))
    assert all(torch.equal(p, before[name]) for name, p in subject.body.named_parameters())
    assert hooks(subject) == 0
    assert all(p.grad is None for p in subject.body.parameters())
    torch.autograd.backward(found)
    trained = {name: p for name, p in subject.body.named_parameters() if p.requires_grad}
    learned = {name for name, p in trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("embeddings.word" in name for name in learned) != bool(lora)
    assert any("lora_B" in name for name in learned) == bool(lora)


@pytest.mark.parametrize("at", [1, 2])
def test_the_hook_is_gone_after_an_error(
    own: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    subject, objective = make(own / "model")
    batch = a_batch(subject)
    weight = embeddings(subject).weight
    assert isinstance(weight, Tensor)
    before = weight.detach().clone()
    forward, calls = subject.body.forward, []

    def fails(*given: Any, **named: Any) -> Any:
        calls.append(hooks(subject))
        if len(calls) == at:
            raise RuntimeError("no memory")
        return forward(*given, **named)

    monkeypatch.setattr(subject.body, "forward", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        objective.terms["fgm"](batch)
    assert calls == [1] * at, "there was a hook"
    assert hooks(subject) == 0
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0.0}, {"epsilon": -1.0}, {"weight": 0.0}, {"eps": 1}]
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    (key,) = wrong
    with pytest.raises(UserError, match=rf"params\.yaml: runs\.toy\.methods\.fgm\.{key} = "):
        toy.methods(toy.config({"fgm": {"epsilon": 1.0, **wrong}}))
