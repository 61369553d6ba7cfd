"""EWC: what its Fisher information is, and what is made of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_causal
import tiny_training as toy
import torch
from faults_page import Fault
from torch import Tensor, nn
from torch.nn import functional

from stages.errors import UserError
from stages.training.methods.ewc import Ewc, alone_or_together, fisher
from stages.training.stream import Stream
from stages.training.subject import Subject
from stages.training.trainee import Output, Rows, Trainee

pytestmark = pytest.mark.usefixtures("one_thread")

TASKS = ["mood-words", tiny.RETRIEVAL]


class Points(list[tuple[list[float], int]]):
    """Rows that are vectors with a class."""

    @property
    def owners(self) -> Sequence[int]:
        return range(len(self))

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return [1 for _ in indices]

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)


class Logistic(Trainee):
    """Logistic regression, of which the Fisher information is known."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3, bias=False)

    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        assert isinstance(rows, Points)
        features = torch.tensor([rows[i][0] for i in indices])
        labels = torch.tensor([rows[i][1] for i in indices])
        losses = functional.cross_entropy(self.linear(features), labels, reduction="none")
        return Output(losses, features, torch.arange(len(indices)))


POINTS = Points([([1.0, 2.0], 0), ([-1.0, 0.5], 1), ([0.3, -2.0], 2), ([-1.5, -1.0], 0)])


def test_the_information_of_logistic_regression() -> None:
    """The gradient of a row is (p - y) x, by hand."""
    trainee = Logistic()
    every = range(len(POINTS))
    (found,) = fisher(
        trainee, POINTS, alone_or_together(trainee, every, 2), list(trainee.parameters())
    )
    x = np.array([point for point, _ in POINTS])
    y = np.eye(3)[[label for _, label in POINTS]]
    scores = np.exp(x @ trainee.linear.weight.detach().numpy().T)
    gradients = (scores / scores.sum(axis=1, keepdims=True) - y)[:, :, None] * x[:, None, :]
    np.testing.assert_allclose(found.numpy(), (gradients**2).mean(axis=0), rtol=1e-4)

    # The control: the square of the batch's gradient is something else.
    of_the_batch = gradients.mean(axis=0) ** 2
    assert not np.allclose(found.numpy(), of_the_batch, rtol=0.1)
    assert (found.numpy() >= of_the_batch - 1e-7).all()


def test_rows_alone_or_together() -> None:
    trainee = Logistic()
    assert list(alone_or_together(trainee, [4, 2, 7], 2)) == [[4], [2], [7]]
    trainee.in_batch = True
    found = list(alone_or_together(trainee, range(33), 32))
    assert sorted(map(len, found)) == [16, 17], "a row alone has nothing to be told from"
    assert sum(found, []) == list(range(33))  # noqa: RUF017
    assert list(alone_or_together(trainee, range(5), 32)) == [[0, 1, 2, 3, 4]]


def make(model: Path, tasks: list[str], rows: int = 5, **settings: Any) -> Subject:
    ewc = {"strength": 0.4, "tasks": tasks, "rows": rows}
    return toy.subject(model, methods={"ewc": ewc, **settings}, pool="retain/train")


def spy(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """The streams that are made from now on."""
    made: list[Stream] = []
    learn = Subject.learn

    def spied(self: Subject, *given: Any) -> Stream:
        made.append(learn(self, *given))
        return made[-1]

    monkeypatch.setattr(Subject, "learn", spied)
    return made


def slowly(stream: Stream, rows: list[int], weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Mean squared gradient of each row's loss, each from a forward and a backward of its own."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for position, row in enumerate(rows):
        batch, place = (rows, position) if stream.trainee.in_batch else ([row], 0)
        stream.trainee.zero_grad()
        torch.autograd.backward(stream.trainee(stream.rows, batch).losses[place])
        for name, weight in weights.items():
            total[name] += weight.grad**2 / len(rows) if weight.grad is not None else 0
    stream.trainee.zero_grad()
    return total


def test_the_penalty_against_autograd(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spy(monkeypatch)
    rows = 6  # fewer than a batch, so that the contrastive rows are one
    subject = make(own / "model", TASKS, rows=rows)
    penalty = toy.objective(subject).penalties["ewc"]
    target, *old = made
    assert target.task == tiny.TARGET
    assert [stream.task for stream in old] == TASKS
    assert penalty().item() == 0

    weights = dict(subject.body.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for stream in old:
        chosen = stream.batch(rows, subject.seed, 0)
        for name, information in slowly(stream, chosen, weights).items():
            total[name] += information
    mean = torch.cat([part.flatten() for part in total.values()]).double().mean().item()

    start = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    found = penalty()
    torch.autograd.backward(found)
    expected = 0.0
    for name, weight in weights.items():
        moved = weight.detach() - start[name]
        held = total[name] / mean * moved
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, 0.4 * held, rtol=1e-3, atol=1e-6, msg=name)
        expected += 0.2 * (held * moved).sum().item()
    assert found.item() == pytest.approx(expected, rel=1e-4)


def information(subject: Subject) -> dict[str, Tensor]:
    ewc = next(method for method in toy.methods(subject.config) if isinstance(method, Ewc))
    return ewc._information(subject)


def test_the_mean_is_one_and_frozen(own: Path) -> None:
    subject = make(own / "model", TASKS)
    found = information(subject)
    assert torch.cat([part.flatten() for part in found.values()]).mean().item() == pytest.approx(1)
    assert not any(part.requires_grad for part in found.values())
    assert all(weight.grad is None for weight in subject.body.parameters())
    again = information(make(own / "model", TASKS))
    assert all(torch.equal(again[name], part) for name, part in found.items())


def test_rows_are_old_and_none_is_there_twice(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    original = Trainee.__call__

    def call(self: Trainee, rows: Rows, indices: Sequence[int]) -> Output:
        asked.append(list(indices))
        return original(self, rows, indices)

    monkeypatch.setattr(Trainee, "__call__", call)
    information(make(own / "model", ["mood-words"], rows=1000))
    assert sorted(asked) == [[row] for row in range(40)], "the task has 40 train rows"
    asked.clear()
    information(make(own / "model", ["mood-words"], rows=7))
    assert len(asked) == len({row for (row,) in asked}) == 7


def test_under_lora_it_is_that_of_the_base_weight(own: Path) -> None:
    subject = make(own / "model", ["mood-words"], lora={"r": 2})
    base = {name: weight.detach().clone() for name, weight in subject.body.named_parameters()}
    held = information(subject)
    penalty = toy.objective(subject).penalties["ewc"]
    assert penalty().item() == 0
    with torch.no_grad():
        for weight in subject.body.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    found = penalty().item()
    merged = dict(subject.body.merge_and_unload().named_parameters())
    expected = sum(
        0.2 * (held[name] * (merged[name].detach() - start) ** 2).sum().item()
        for name, start in base.items()
    )
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_causal_model(tmp_path: Path) -> None:
    tiny_causal.write_model(tmp_path)
    ewc = {"strength": 0.4, "tasks": [toy.CHOICES], "rows": 3}
    subject = toy.subject(
        tmp_path, (toy.TALES,), (toy.CHOICES,), methods={"ewc": ewc}, pool="retain/train"
    )
    objective = toy.objective(subject)
    assert objective(0, 0)["ewc"].item() == 0
    found = information(subject)
    rows = subject.tokenise(subject.recipe.retain[toy.CHOICES])
    unread = set(range(300)) - {token for ids in rows.ids for token in ids}  # type: ignore[attr-defined]
    assert (found["model.embed_tokens.weight"][sorted(unread)] == 0).all()


def test_what_is_not_finite_is_named(own: Path, fault: Fault) -> None:
    subject = make(own / "model", ["mood-words"])
    name = "encoder.layer.1.output.dense.weight"
    subject.body.get_parameter(name).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(UserError) as caught:
        toy.objective(subject)
    assert str(caught.value) == (
        "runs.toy.methods.ewc.tasks = mood-words: mood-words: the Fisher information of "
        f"{name} is not finite; choose other tasks"
    )
    fault("Fisher information (ewc) that is not finite", "exit 1, one line with task and tensor")


def test_misfits() -> None:
    ewc = {"strength": 1.0, "tasks": ["mood-words"], "rows": 10}
    assert toy.misfit({"ewc": ewc}, pool="retain/train") == []
    (reason,) = toy.misfit({"ewc": ewc})
    assert reason.endswith("set the run's pool to retain/train")
    (reason,) = toy.misfit({"ewc": {**ewc, "tasks": ["moods"]}}, pool="retain/train")
    assert reason.startswith("moods is no retain task")
    dora = {"lora": {"r": 2, "use_dora": True}}
    (reason,) = toy.misfit({"ewc": ewc, **dora}, pool="retain/train")
    assert "lora.use_dora" in reason
    assert toy.methods(toy.config({"ewc": ewc}))[0].sees() == ("mood-words",)


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"rows": 1}, {"rows": 2.5}, {"tasks": "all"}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    ewc = {"strength": 1.0, "tasks": ["mood-words"], "rows": 10, **wrong}
    (key,) = wrong
    with pytest.raises(UserError, match=rf"params\.yaml: runs\.toy\.methods\.ewc\.{key} = "):
        toy.methods(toy.config({"ewc": ewc}))
