"""Streams and the objective: which rows are drawn when, and what a step's loss is the sum of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_training as small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import UserError
from stages.models.causal import CausalTokenizer
from stages.models.encoder import embed, load_encoder
from stages.models.probe import fit_probe
from stages.tasks.examples import Examples, Task
from stages.training import order
from stages.training.causal import tokenise
from stages.training.encoder import EncoderRows
from stages.training.methods.lora import Lora
from stages.training.methods.method import Fit, Method
from stages.training.methods.replay import Replay
from stages.training.methods.self_replay import SelfReplay
from stages.training.stream import Stream

OLD = "shape-topics"


class _Rows:
    """Nothing but a number of rows."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def lengths(self, indices: Any) -> list[int]:
        return [1] * len(indices)

    def weight(self, indices: Any) -> int:
        return len(indices)


def stream(rows: int, share: float, chunk: int = 1) -> Stream:
    return Stream("any", torch.nn.Identity(), _Rows(rows), share, chunk)  # type: ignore[arg-type]


# Streams


@settings(max_examples=50, deadline=None)
@given(
    percent=st.integers(1, 400),
    chunk=st.sampled_from([1, 3, 8]),
    batch=st.integers(2, 32),
    steps=st.integers(1, 60),
)
def test_rows_come_evenly_and_in_chunks(percent: int, chunk: int, batch: int, steps: int) -> None:
    made = stream(1000, percent / 100, chunk)
    counts = [len(made.batch(batch, 0, step)) for step in range(steps)]
    assert all(count % chunk == 0 for count in counts)
    for step in range(steps + 1):
        exact = step * batch * percent / 100
        assert exact - chunk < sum(counts[:step]) <= exact + 1e-6


def test_a_target_alone_is_drawn_a_batch_a_step() -> None:
    made = stream(10, 1.0)
    seen = [row for step in range(5) for row in made.batch(4, 3, step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_what_is_seen_is_what_the_batches_hold() -> None:
    for made in (stream(50, 0.5, 3), stream(5, 1.0), stream(7, 0.25).of([0, 3, 3, 6])):
        held = {row for step in range(9) for row in made.batch(4, 2, step)}
        assert made.seen(4, 2, 9) == sorted(held)


def test_places_are_what_an_epoch_consists_of() -> None:
    made = stream(3, 1.0).of([0, 1, 1, 2])
    assert sorted(made.batch(4, 0, 0)) == [0, 1, 1, 2]


def test_two_thirds_and_a_third_lose_no_row_to_rounding() -> None:
    assert stream(99, 1 / 3).drawn(3, 30) == 30
    assert stream(99, 0.1).drawn(10, 3) == 3


# Replay


def test_five_per_cent_of_replay_by_count(encoder: Path) -> None:
    method = Replay(fraction=0.2, tasks=(OLD,))
    _, objective = small.composed(encoder, [method], retain=(OLD,), steps=40, batch_size=4)
    target, old = objective.streams
    drawn = [len(old.batch(4, 0, step)) for step in range(40)]
    assert sum(drawn) == 40  # r / (1 - r) = a quarter of 160
    assert drawn == [1] * 40
    rows = [row for step in range(40) for row in old.batch(4, 0, step)]
    assert len(set(rows)) == 40, "a row came twice"
    assert [len(target.batch(4, 0, step)) for step in range(40)] == [4] * 40


def test_replay_of_pairs_comes_in_batches(encoder: Path) -> None:
    method = Replay(fraction=0.2, tasks=(small.PAIRED,))
    _, objective = small.composed(encoder, [method], retain=(small.PAIRED,), batch_size=4)
    drawn = [len(objective.streams[1].batch(4, 0, step)) for step in range(8)]
    assert drawn == [0, 0, 0, 4, 0, 0, 0, 4]
    assert small.PAIRED not in small.parts(objective, 0)
    assert small.parts(objective, 3)[small.PAIRED].item() > 0.1


def test_replay_never_repeats_a_row_unasked(encoder: Path) -> None:
    given = {"retain": (OLD,), "steps": 200, "batch_size": 4}
    with pytest.raises(UserError, match=r"replay.repeats = 1: 200 rows of shape-topics are wanted"):
        small.composed(encoder, [Replay(fraction=0.2, tasks=(OLD,))], **given)
    small.composed(encoder, [Replay(fraction=0.2, tasks=(OLD,), repeats=5)], **given)


def test_a_replayed_head_starts_from_its_probe(encoder: Path) -> None:
    """So it asks the body to keep what it can, not to learn the task anew."""
    method = Replay(fraction=0.5, tasks=(OLD,))
    _, objective = small.composed(encoder, [method], retain=(OLD,))
    old = objective.streams[1]
    body = load_encoder(encoder, "mean")
    rows = old.rows
    assert isinstance(rows, EncoderRows)
    probe = fit_probe(embed(body, rows.texts[0], 0, 512), np.asarray(rows.labels), 3)
    head = dict(objective.named_parameters())["trainees.1.head.weight"]
    np.testing.assert_allclose(head.detach().numpy(), probe.weight, rtol=1e-4, atol=1e-6)


# The objective


def test_a_row_of_any_stream_counts_alike(encoder: Path) -> None:
    """Target and replay as if mixed in one batch, over the target's batch size."""
    _, objective = small.composed(
        encoder, [Replay(fraction=0.5, tasks=(OLD,))], retain=(OLD,), batch_size=4
    )
    objective.eval()
    found = small.parts(objective, 2)
    for made in objective.streams:
        chosen = made.batch(4, 0, 2)
        expected = made.trainee(made.rows, chosen).losses.sum() / 4
        torch.testing.assert_close(found[made.task], expected)


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_processes_add_up(encoder: Path, processes: int) -> None:
    """DDP averages over processes: the mean of what each computes is what one would."""
    _, objective = small.composed(
        encoder, [Replay(fraction=0.2, tasks=(OLD,))], retain=(OLD,), batch_size=4
    )
    objective.eval()
    whole = small.parts(objective, 1)
    shares = [objective(0, 1, process, processes) for process in range(processes)]
    for task, loss in whole.items():
        mean = sum(share[task].item() for share in shares if task in share) / processes
        assert mean == pytest.approx(loss.item(), rel=1e-5)


def test_several_targets_share_a_batch(encoder: Path) -> None:
    _, objective = small.composed(encoder, [], targets=(small.LABELLED, OLD), batch_size=6)
    assert [len(made.batch(6, 0, 0)) for made in objective.streams] == [3, 3]
    assert objective.streams[0].trainee is not objective.streams[1].trainee
    names = [name for name, _ in objective.named_parameters()]
    assert {name for name in names if ".head." in name} == {
        f"trainees.{number}.head.{part}" for number in (0, 1) for part in ("weight", "bias")
    }
    assert len(names) == len({id(p) for p in objective.parameters()}), "the body is there twice"


class _Half(Method):
    """A penalty that is known."""

    name = "half"

    def penalty(self, subject: Any) -> Any:
        return lambda: 0.5 * next(iter(subject.body.parameters())).square().sum()


def test_replay_lora_and_a_penalty_are_the_sum_of_their_parts(encoder: Path) -> None:
    """Step for step while they train: each part is what it is alone at the same weights."""
    methods: list[Method] = [Lora(r=2), Replay(fraction=0.5, tasks=(OLD,)), _Half()]
    subject, objective = small.composed(encoder, methods, retain=(OLD,), batch_size=4)
    objective.train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step in range(4):
        found = small.parts(objective, step)
        assert set(found) == {small.LABELLED, OLD, "half"}
        alone = {}
        order.seed_step(0, step, 0)
        for made in objective.streams:
            chosen = made.batch(4, 0, step)
            alone[made.task] = made.trainee(made.rows, chosen).losses.mean() * len(chosen) / 4
        alone["half"] = 0.5 * next(iter(subject.body.parameters())).square().sum()
        for name, expected in alone.items():
            torch.testing.assert_close(found[name], expected)
        loss = torch.stack(list(found.values())).sum()
        torch.testing.assert_close(loss, torch.stack(list(alone.values())).sum())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert any("lora_B" in name for name, p in objective.named_parameters() if p.grad is not None)


# Self-replay


def test_self_replay_writes_what_the_base_would(causal: Path) -> None:
    """Deterministic by seed, from BOS, of the base's own distribution."""
    method = SelfReplay(fraction=0.5, length=12)
    made = [
        small.composed(causal, [method], targets=(small.TALES,), seed=seed)[1].streams[1]
        for seed in (0, 0, 1)
    ]
    ids = [stream.rows.ids for stream in made]  # type: ignore[attr-defined]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 6 * 4
    subject = small.subject(causal, targets=(small.TALES,))
    start = subject.loaded.tokenizer.prompt("")  # type: ignore[union-attr]
    assert all(row[: len(start)] == start for row in ids[0])
    assert all(len(start) < len(row) <= len(start) + 12 for row in ids[0])
    end = subject.loaded.tokenizer.eos_ids[0]  # type: ignore[union-attr]
    assert all(end not in row[len(start) : -1] for row in ids[0])
    assert len({tuple(row) for row in ids[0]}) > 20, "the texts are alike"


def test_self_replay_does_not_follow_the_models_own_settings(causal: Path) -> None:
    drawn = []
    for penalty in (1.0, 5.0):
        subject = small.subject(causal, targets=(small.TALES,))
        subject.loaded.model.generation_config.repetition_penalty = penalty  # type: ignore[union-attr]
        (stream,) = SelfReplay(fraction=0.5, length=12).streams(subject)
        assert subject.loaded.model.generation_config.repetition_penalty == penalty  # type: ignore[union-attr]
        drawn.append(stream.rows.ids)  # type: ignore[attr-defined]
    assert drawn[0] == drawn[1]


def test_replay_of_no_row_is_refused(causal: Path, encoder: Path) -> None:
    refused = r"replay.fraction = 0.001: no row .*would come in \d+ steps"
    written = SelfReplay(fraction=0.001, length=12)
    with pytest.raises(UserError, match=f"self-{refused}"):
        written.streams(small.subject(causal, targets=(small.TALES,)))
    old = Replay(fraction=0.001, tasks=(OLD,))
    with pytest.raises(UserError, match=refused):
        old.streams(small.subject(encoder, retain=(OLD,)))


def choices(context: str, choice: str) -> dict[str, object]:
    return {"context": context, "choices": [choice, " other"], "answer": 0}


def test_a_long_context_loses_its_beginning_and_no_answer(causal: Path) -> None:
    tokenizer = small.subject(causal, targets=(small.TALES,)).loaded.tokenizer
    assert isinstance(tokenizer, CausalTokenizer)
    asked = [("the sun " * 400, " is high"), ("the sun", " is low")]
    rows = pd.DataFrame([choices(*one) for one in asked])
    task = Task("asked", "multiple-choice", 16, (), {})
    found = tokenise(Examples(task, rows), tokenizer)
    for ids, start, (context, answer) in zip(found.ids, found.starts, asked, strict=True):
        before, learned = tokenizer.pair(context, answer)
        assert ids[start:] == learned
        assert ids[:start] == before[-start:]
        assert len(ids) == min(len(before + learned), 16 + 1)
    assert found.weight([0]) == len(tokenizer.pair(*asked[0])[1])


def test_rows_that_have_nothing_to_learn_shift_no_other(causal: Path) -> None:
    """What was trained on is told by the examples that rows were made of."""
    subject = small.subject(causal, targets=(small.TALES,), retain=())
    (train,) = subject.recipe.train
    train.rows.loc[[0, 7, 8], ["prompt", "text"]] = ["the sun", ""]
    subject.learn_targets(lambda examples: examples)
    (stream,) = subject.targets
    assert len(stream.rows) == 37
    ids, size = train.column("example_id"), subject.config.batch_size
    left = [number for number in range(40) if number not in (0, 7, 8)]
    assert list(stream.rows.owners) == left
    seen = {ids[left[row]] for row in stream.batch(size, 0, 0)}
    assert subject.trained(1) == {small.TALES: sorted(seen)}

    said = {"prompt": ["the sun", "the moon", "a star"], "completion": [["up"], [""], ["far"]]}
    task = Task("said", "completion", 24, (), {"max_new_tokens": 8, "metric": "exact-match"})
    rows = subject.tokenise(Examples(task, pd.DataFrame(said)))
    assert list(rows.owners) == [0, 2]
    asked = pd.DataFrame([choices("the sun", text) for text in ("", " is up", " is low")])
    rows = subject.tokenise(Examples(Task("asked", "multiple-choice", 16, (), {}), asked))
    assert list(rows.owners) == [1, 2]


def test_a_text_behind_a_long_prompt_is_learned(causal: Path) -> None:
    tokenizer = small.subject(causal, targets=(small.TALES,)).loaded.tokenizer
    assert isinstance(tokenizer, CausalTokenizer)
    rows = pd.DataFrame({"prompt": ["the sun " * 400], "text": ["is high"]})
    found = tokenise(Examples(Task("told", "language-modelling", 64, (), {}), rows), tokenizer)
    assert found.weight([0]) >= 1
    assert len(found.ids[0]) <= tokenizer.longest


def test_self_replay_of_an_encoder_is_refused() -> None:
    fit = Fit(small.config(), "encoder", {small.LABELLED: "classification"}, {})
    reason = SelfReplay(fraction=0.1, length=8).misfit(fit)
    assert reason is not None
    assert "replay would fit" in reason


# What does not fit


@pytest.mark.parametrize(
    ("tasks", "pool", "said"),
    [
        ((OLD,), "target", "set the run's pool to retain/train"),
        (("colour",), "retain/train", "colour is no retain task of tiny: give some of chat, shape"),
        (("chat",), "retain/train", "no answers to learn from; what would fit: shape-topics"),
        ((OLD, OLD), "retain/train", "duplicate name 'shape-topics'"),
        ((), "retain/train", "names no task"),
    ],
)
def test_replay_that_does_not_fit(tasks: tuple[str, ...], pool: str, said: str) -> None:
    kinds = {OLD: "linear-probe", "chat": "instruction-following"}
    fit = Fit(small.config(pool=pool), "encoder", {small.LABELLED: "classification"}, kinds)
    reason = Replay(fraction=0.1, tasks=tasks).misfit(fit)
    assert reason is not None
    assert said in reason
    good = replace(fit, run=small.config(pool="retain/train"))
    assert Replay(fraction=0.1, tasks=(OLD,)).misfit(good) is None
