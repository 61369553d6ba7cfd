"""Label smoothing and class balance: what they do to the training loss, and to nothing else."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_causal
import tiny_training as toy
import torch
from torch.nn import functional

from stages.errors import UserError
from stages.tasks.examples import Examples
from stages.training.encoder import EncoderRows
from stages.training.methods.balance import balanced, oversampled
from stages.training.stream import Stream
from stages.training.subject import Subject
from stages.training.trainee import mean_loss

pytestmark = pytest.mark.usefixtures("one_thread")

SHARE = 0.2


def still(subject: Subject) -> None:
    """Training mode without dropout."""
    for module in subject.body.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_smoothing_by_hand(own: Path) -> None:
    smoothing = {"label-smoothing": {"share": SHARE}}
    subject = toy.subject(own / "model", methods=smoothing)
    objective = toy.objective(subject).train()
    still(subject)
    (stream,) = subject.targets
    output = stream.trainee(stream.rows, range(5))
    assert output.logits is not None and output.labels is not None
    shares = output.logits().log_softmax(dim=1)
    wanted = torch.full((5, 4), SHARE / 4)
    wanted[torch.arange(5), output.labels] += 1 - SHARE
    torch.testing.assert_close(output.losses, -(wanted * shares).sum(dim=1))

    objective.eval()
    hard = stream.trainee(stream.rows, range(5)).losses
    torch.testing.assert_close(hard, -shares[torch.arange(5), output.labels])
    assert mean_loss(stream.trainee, stream.rows, range(5), 8) == pytest.approx(hard.mean().item())


def test_replayed_rows_keep_their_labels(own: Path, tmp_path: Path) -> None:
    replay = {"fraction": 0.5, "tasks": ["mood-words"], "repeats": 9}
    smoothing = {"label-smoothing": {"share": SHARE}}
    encoder = toy.subject(
        own / "model", methods={**smoothing, "replay": replay}, pool="retain/train"
    )
    tiny_causal.write_model(tmp_path)
    causal = toy.subject(
        tmp_path,
        (toy.TALES,),
        (toy.CHOICES,),
        methods={**smoothing, "replay": {**replay, "tasks": [toy.CHOICES]}, "lora": {"r": 2}},
        pool="retain/train",
    )
    for subject in (encoder, causal):
        target, replayed = toy.objective(subject).train().streams
        still(subject)
        for stream, smoothed in ((target, True), (replayed, False)):
            output = stream.trainee(stream.rows, [0, 1])
            assert output.logits is not None and output.labels is not None
            hard = functional.cross_entropy(output.logits(), output.labels, reduction="none")
            found = torch.allclose(output.losses, output.by_row(hard))
            assert found != smoothed, stream.task
        # Each trainee has the one body, with what was put around it.
        bodies = [getattr(stream.trainee, "model", subject.body) for stream in (target, replayed)]
        assert all(body is subject.body for body in bodies)


LABELS = np.array([0, 2, 2, 1, 2, 0, 2, 2])


def test_sampling_by_hand() -> None:
    found = oversampled(LABELS)
    assert found == [0, 5, 0, 5, 0, 3, 3, 3, 3, 3, 1, 2, 4, 6, 7]
    assert Counter(LABELS[found].tolist()) == {0: 5, 1: 5, 2: 5}
    assert set(found) == set(range(len(LABELS))), "no row is left out"
    even = np.array([1, 0, 1, 0])
    assert sorted(oversampled(even)) == [0, 1, 2, 3]


def skewed(subject: Subject, *counts: int) -> None:
    """So many train rows of each class of the target."""
    (train,) = subject.recipe.train
    rows = train.rows
    kept = [
        rows[rows["label"] == name].head(count)
        for name, count in zip(train.task.labels, counts, strict=True)
    ]
    subject.recipe.train[:] = [Examples(train.task, pd.concat(kept, ignore_index=True))]


def drawn(stream: Stream, steps: int) -> Counter[int]:
    assert isinstance(stream.rows, EncoderRows) and stream.rows.labels
    return Counter(
        stream.rows.labels[row] for step in range(steps) for row in stream.batch(8, 0, step)
    )


def test_an_epoch_is_balanced(own: Path) -> None:
    for methods, expected in (({"balance": {"by": "sampling"}}, 9), ({}, None)):
        subject = toy.subject(own / "model", methods=methods)
        skewed(subject, 9, 3, 5, 1)
        toy.objective(subject)
        (stream,) = subject.targets
        assert len(stream.rows) == 18, "rows are not copied"
        found = drawn(stream, 9)
        if expected:
            assert found == dict.fromkeys(range(4), 18), "two epochs of 36 places"
        else:
            assert found == {0: 36, 1: 12, 2: 20, 3: 4}, "the control: four epochs as it is"


def test_weights_by_hand() -> None:
    """Rows over classes times rows of the class: 8 / (3 * 2), 8 / (3 * 1), 8 / (3 * 5)."""
    assert balanced(LABELS).tolist() == pytest.approx([4 / 3, 8 / 3, 8 / 15])
    assert balanced(LABELS)[LABELS].mean().item() == pytest.approx(1)


def test_weights_in_training_alone(own: Path) -> None:
    subject = toy.subject(own / "model", methods={"balance": {"by": "weights"}})
    skewed(subject, 9, 3, 5, 1)
    objective = toy.objective(subject).train()
    still(subject)
    (stream,) = subject.targets
    assert isinstance(stream.rows, EncoderRows) and stream.rows.labels
    every = range(len(stream.rows))
    weighed = stream.trainee(stream.rows, every).losses
    objective.eval()
    plain = stream.trainee(stream.rows, every).losses
    weights = {0: 18 / 36, 1: 18 / 12, 2: 18 / 20, 3: 18 / 4}
    expected = plain * torch.tensor([weights[label] for label in stream.rows.labels])
    torch.testing.assert_close(weighed, expected)
    assert drawn(stream, 9) == {0: 36, 1: 12, 2: 20, 3: 4}


@pytest.mark.parametrize(
    "methods", [{"balance": {"by": "weights"}}, {"label-smoothing": {"share": 0.1}}]
)
def test_targets_without_labels_are_refused(methods: dict[str, Any]) -> None:
    assert toy.misfit(methods) == []
    (reason,) = toy.misfit(methods, target="retrieval")
    assert reason == (
        "works on labels, and target has none; "
        "what would fit: targets of the kinds classification, linear-probe, "
        "pair-classification, relation"
    )
    headless = {"head": None, "head_learning_rate": None}
    refused = toy.misfit(methods, "causal", "language-modelling", **headless)
    assert bool(refused) == ("balance" in methods), "a causal model's labels are tokens"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("balance", {"by": "both"}),
        ("balance", {"by": None}),
        ("label-smoothing", {"share": 0.0}),
        ("label-smoothing", {"share": 1.0}),
    ],
)
def test_settings_out_of_range(name: str, wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(UserError, match=rf"params\.yaml: runs\.toy\.methods\.{name}\.{key} = "):
        toy.methods(toy.config({name: wrong}))
