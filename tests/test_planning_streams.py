"""Which rows a step of training holds, as the plan counts them and as training draws them."""

from dataclasses import replace
from typing import Any, cast

import pytest
from test_plan import FLAT, ROWS, SHAPE, TEXTS, case, config, evaluation, plan

from stages.config.cases import CaseConfig
from stages.planning import asked, memory, work
from stages.planning.case import Case, Recipe
from stages.planning.streams import Stream, streams
from stages.scoring import own_text
from stages.training import stream as training
from stages.training.methods.self_replay import AT_ONCE

STEP = 7 * 2560 + 6 * 2 * 10 * 50
"""Operations of a row forward, see test_plan.py."""
REPLAY = {"replay": {"fraction": 0.2, "tasks": ["a", "b"]}}


def _case(**texts: Any) -> Case:
    """With others in place of some of its texts; an encoder's where one is of retrieval."""
    made = case()
    shape = replace(SHAPE, causal=all(one.kind != "retrieval" for one in texts.values()))
    return replace(made, shape=shape, texts={**made.texts, **texts})


def _finetune(of: Case, **settings: Any) -> work.Work:
    return work.finetune(of, Recipe("full", config(**settings), ()))


def _held(of: Case, **settings: Any) -> memory.Memory:
    return memory.finetune(of, Recipe("full", config(**settings), ()), "fp32", 1, True)


def test_replayed_rows_come_on_top() -> None:
    """Of all rows a fifth: one beside four of the target, half a row of each task."""
    found = list(streams(case(), config(methods=REPLAY)))
    assert [one.rate for one in found] == [ROWS, 0.5, 0.5]
    assert _finetune(case(), methods=REPLAY)["train"] == pytest.approx(3 * 10 * (ROWS + 1) * STEP)


def test_targets_share_a_batch() -> None:
    told = CaseConfig.model_validate({"model": "m", "targets": ["t", "u"], "retain": ["a", "b"]})
    of = replace(case(), config=told, texts=dict.fromkeys("tuab", TEXTS))
    assert [one.rate for one in streams(of, config(methods=REPLAY))] == [2, 2, 0.5, 0.5]


def test_what_the_base_writes_is_learned_and_written() -> None:
    """A fifth of all rows, of BOS and 9 tokens."""
    told = {"self-replay": {"fraction": 0.2, "length": 9}}
    found = _finetune(case(), methods=told)
    own = 10 * (2 * 1000 + 4 * 2 * 10 * 10) + 9 * 2 * 10 * 50
    assert found["train"] == pytest.approx(3 * 10 * (ROWS * STEP + own))
    weights = 2 * (1000 + 10 * 50)
    assert found["write"] == 10 * 9 * weights  # ten steps, a row each
    assert found["stream"] == pytest.approx(10 * 9 / AT_ONCE * weights)


def test_rows_that_a_teacher_labels_are_learned_and_read() -> None:
    of, told = _case(t=replace(TEXTS, kind="classification")), {"threshold": 0.9, "fraction": 0.5}
    of = replace(of, shape=replace(SHAPE, causal=False))
    plain, taught = _finetune(of), _finetune(of, methods={"self-training": told})
    assert taught["train"] == 2 * plain["train"]
    assert taught["read"] - plain["read"] == work.of_rows(of, of.texts["t"], 100)


@pytest.mark.parametrize(("rate", "chunk"), [(4.0, 1), (0.3, 1), (2.5, 1), (0.9, 8), (11.0, 8)])
def test_no_step_draws_more_than_is_planned(rate: float, chunk: int) -> None:
    planned, batch = Stream(TEXTS, rate, chunk), 8
    drawing = training.Stream("t", cast(Any, None), cast(Any, range(50)), rate / batch, chunk)
    counts = [len(drawing.batch(batch, 0, step)) for step in range(200)]
    assert max(counts) == planned.most(1)
    assert sum(counts) / 200 == pytest.approx(rate, rel=0.05)


def test_a_chunk_of_retrieval_is_held_whole() -> None:
    """However many turns there are: its rows are each other's negatives."""
    pairs = replace(TEXTS, kind="retrieval")
    told = {"replay": {"fraction": 0.2, "tasks": ["a"]}}
    of = _case(a=pairs)
    target, replayed = streams(of, config(methods=told, batch_size=8))
    assert (replayed.rate, replayed.chunk, replayed.most(4)) == (2, 8, 8)
    assert target.most(4) == 2
    batch = _held(of, methods=told, batch_size=8, accumulate=4).batch
    assert batch == memory.activations(of.shape, 7 * (2 + 8), "fp32")
    # The mean over steps is what it takes time for.
    each = 7 * 2560
    assert _finetune(of, methods=told)["train"] == pytest.approx(3 * 10 * (ROWS + 1) * each)


def test_a_chunk_is_padded_to_its_longest() -> None:
    pairs = replace(TEXTS, kind="retrieval", learned=(3, 90))
    told = {"replay": {"fraction": 0.01, "tasks": ["a"]}}
    _, replayed = streams(_case(a=pairs), config(methods=told, batch_size=64))
    assert replayed.length == 90


@pytest.mark.parametrize("kind", ["retrieval", "classification"])
def test_a_contrastive_target_is_taken_in_no_turns(kind: str) -> None:
    of = replace(case(), shape=replace(SHAPE, causal=False))
    of = replace(of, texts={**of.texts, "t": replace(TEXTS, kind=kind)})
    methods = {} if kind == "retrieval" else {"supervised-contrastive": {"weight": 0.5}}
    found = _held(of, methods=methods, batch_size=8, accumulate=4).batch
    assert found == memory.activations(of.shape, 7 * 8, "fp32")


def test_a_turn_holds_rows_of_every_stream() -> None:
    plain, replayed = _held(case(), batch_size=8), _held(case(), batch_size=8, methods=REPLAY)
    rows = 8 + 1 + 1  # of either task one at most
    more = memory.activations(SHAPE, 7 * 2, "fp32") + 2 * 6 * SHAPE.vocabulary * 4
    assert replayed.batch - plain.batch == more
    assert replayed.batch > memory.activations(SHAPE, 7 * rows, "fp32")


def test_frozen_weights_are_the_models_own() -> None:
    frozen = {"freeze": {"layers": 1}}
    assert _held(case(), methods=frozen).states == 4 * 1600 + 12 * 500
    expanded = {"block-expansion": {"blocks": 1}}
    assert _held(case(), methods=expanded).states == 4 * 1600 + 16 * 500


def test_what_is_written_is_written_as_often_as_it_is_asked() -> None:
    """Under noise too, and of a target once more for its train rows; of news once."""
    tokens = {"validation": 20 * 5, "test": 40 * 5}
    of = _case(t=replace(TEXTS, kind="completion", written=tokens))
    conditions = ["typos-0.1", "case-0.2"]
    asks = evaluation(noise={"tasks": "all", "conditions": conditions})
    each = 2 * (1000 + 10 * 50)
    own = own_text.TEXTS * own_text.TOKENS
    base = 20 + (2 + 2) * 40  # asked again, and of either condition
    assert asked.baseline(of, asks)["write"] == (base * 5 + own) * each
    run = Recipe("full", config(), ())
    found = 2 * 20 + (1 + 2) * 40 + 0
    assert asked.retention(of, run, asks)["write"] == found * 5 * each
    news = _case(t=replace(TEXTS, kind="news-writing", written={"test": 30}))
    assert asked.baseline(news, asks)["write"] == (30 + own) * each
    assert asked.retention(news, run, asks)["write"] == 30 * each


def test_the_rate_is_of_a_mean_step() -> None:
    """Products are as fast as those of the tokens of a step, not of its largest."""
    sizes: list[int] = []

    def products(_: str, __: int, rows: int) -> float:
        sizes.append(rows)
        return 1e6

    made = plan(on=replace(FLAT, products=products), methods=REPLAY)
    list(made.stages())
    assert round(7 * (ROWS + 1)) in sizes
