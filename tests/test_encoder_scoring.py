"""Encoder scoring: what is embedded, and that it is embedded once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from stages.models.encoder import load_encoder, longest_input
from stages.models.probe import Sample
from stages.models.texts import Tokenizer
from stages.scoring import encoder
from stages.scoring.encoder import EncoderScorer, _redrawn
from stages.scoring.splits import Asking, TaskSplits
from stages.tasks.examples import Examples, Task

A, B, C, D = tiny.FILLER[:4]
WORDS = [f"{A} {B}", C, f"{D} {A} {C} {B}", f"{B} {B}", A, f"{C} {D}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("encoder")
    tiny.write_model(there)
    return there


@pytest.fixture
def scorer(folder: Path) -> EncoderScorer:
    encoder = load_encoder(folder, "mean")
    return EncoderScorer(encoder, Tokenizer(folder, longest_input(encoder)), {}, 64)


def splits(name: str, kind: str, max_length: int, **columns: list[str]) -> TaskSplits:
    labels = tuple(sorted(set(columns.get("label", ()))))
    rows = pd.DataFrame(columns).assign(group="g", slice="s")
    rows["example_id"] = [f"{name}-{n}" for n in range(len(rows))]
    part = Examples(Task(name, kind, max_length, labels, {}), rows)
    return TaskSplits("retain", part, part, part)


def count(scorer: EncoderScorer, asked: TaskSplits, asking: Asking) -> tuple[pd.DataFrame, int]:
    """The records, and the tokens that the model read for them, padding left out."""
    read: list[int] = []

    def hook(_: Any, __: Any, given: dict[str, Any]) -> None:
        read.append(int(given["attention_mask"].sum()))

    handle = scorer.encoder.body.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        return scorer.score(asked, asking)[0], sum(read)
    finally:
        handle.remove()


def test_a_text_that_several_tasks_ask_is_read_once(scorer: EncoderScorer) -> None:
    once = Asking(0, (), 0)
    found = splits("found", "retrieval", 16, query=WORDS, document=WORDS[::-1])
    labelled = splits("labelled", "linear-probe", 16, text=WORDS, label=["a", "b"] * 3)
    cut = splits("cut", "linear-probe", 3, text=WORDS, label=["a", "b"] * 3)
    lengths = [len(row) for row in scorer.tokenizer(WORDS, 16)]
    assert count(scorer, found, once)[1] == sum(lengths)
    assert count(scorer, labelled, once)[1] == 0
    # Of what is cut to a word, A and C have been read; B and D have not.
    assert count(scorer, cut, once)[1] == 3 * 2


@pytest.mark.parametrize("at_once", [4, 1024])
def test_vectors_are_those_of_each_text_alone(
    scorer: EncoderScorer, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the nearest is that among all, of queries held against them in parts, too."""
    monkeypatch.setattr(encoder, "AT_ONCE", at_once)
    asked = splits("found", "retrieval", 16, query=WORDS, document=WORDS[::-1])
    records, _ = count(scorer, asked, Asking(1, (), 0))
    with torch.inference_mode():
        vectors = np.stack(
            [
                scorer.encoder(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long))[0]
                for row in scorer.tokenizer(WORDS, 16)
            ]
        )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = (unit @ unit[::-1].T).argmax(axis=1)
    test = records[(records["split"] == "test") & (records["condition"] == "clean")]
    assert test["prediction"].tolist() == [f"found-{n}" for n in nearest]
    again = records[records["condition"] == "rescored"]
    assert again["prediction"].tolist() == test["prediction"].tolist()


def test_asked_again_is_read_again(scorer: EncoderScorer) -> None:
    labelled = splits("labelled", "linear-probe", 16, text=WORDS, label=["a", "b"] * 3)
    lengths = sum(len(row) for row in scorer.tokenizer(WORDS, 16))
    assert count(scorer, labelled, Asking(3, (), 0))[1] == 2 * lengths


def test_a_draw_of_one_class_is_drawn_again(scorer: EncoderScorer) -> None:
    rare = splits("rare", "linear-probe", 16, text=WORDS, label=["a"] * 5 + ["b"])
    records, _ = count(scorer, rare, Asking(8, (), 0))
    again = records[records["condition"] == "rescored"]
    assert sorted(set(again["seed"])) == list(range(8))


def test_only_a_draw_of_one_class_is_drawn_again() -> None:
    sample = Sample.of("classes", [np.full((1, 1), n) for n in range(6)], [0, 0, 0, 0, 0, 1])
    for seed in range(20):
        first, second, *_ = (
            rows for rows in np.random.default_rng(seed).integers(6, size=(99, 6)) if 5 in rows
        )
        generator = np.random.default_rng(seed)
        for rows in (first, second):
            drawn = _redrawn(sample, generator)
            assert [int(feature[0, 0]) for feature in drawn.features] == rows.tolist()
    alike = sample.drawn([0, 1, 2])
    assert len(_redrawn(alike, np.random.default_rng(0))) == 3
