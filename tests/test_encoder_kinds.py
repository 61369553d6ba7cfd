"""Kinds of task that an encoder answers by a head, each as target and as retain task."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_kinds
import tiny_training
import torch
import transformers

from stages.models.encoder import embed, load_encoder, longest_input
from stages.models.texts import Tokenizer
from stages.records import read_records
from stages.storage import read_json
from stages.tasks.splitting import split_rows
from stages.training.methods.augment import AUGMENTED, REFUSED

MEASURES = {
    "pair-classification": "accuracy",
    "relation": "micro_f1",
    "token-classification": "entity_f1",
    "extractive-qa": "token_f1",
    "multi-label": "micro_f1",
    "regression": "spearman",
    "pair-regression": "spearman",
}


@pytest.mark.parametrize("kind", MEASURES)
def test_a_kind_goes_through_the_stages(
    kind: str, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    tiny_kinds.make(tmp_path, own, kind)
    tiny.edit_params(tmp_path, runs__full__steps=80)
    monkeypatch.chdir(tmp_path)
    tiny.run_stage("check")
    tiny.run_stage("prepare", tiny_kinds.CASE)
    tiny.run_stage("pretrain_baseline_eval", tiny_kinds.CASE)
    tiny.run_stage("finetune", "full")
    tiny.run_stage("retention_eval", "full")
    tiny.run_stage("compare")

    retention = read_json(Path("metrics/retention.json"))[tiny_kinds.CASE]
    scores = read_json(Path("metrics/scores.json"))[tiny_kinds.CASE]
    for task, measure in MEASURES.items():
        figures = {run: scores[run][task][measure]["value"] for run in ("base", "full")}
        changes = retention["full"]["gain" if task == kind else "drop"]
        change = figures["full"] - figures["base"]
        assert changes[task] == pytest.approx(change if task == kind else -change, abs=2e-4)
        assert all(map(math.isfinite, figures.values()))
    # It learned: each task's answers can be told from its words.
    target = scores["full"][kind][MEASURES[kind]]
    assert target["value"] > scores["base"][kind]["chance"]["value"] + 0.2
    if "extractive-qa" in scores["full"]:
        figures = scores["full"]["extractive-qa"]
        assert 0 < figures["exact_match"]["value"] <= figures["token_f1"]["value"]
        assert figures["chance"]["value"] > 0
    records, about = read_records(Path(f"metrics/records/{tiny_kinds.CASE}/full.parquet"))
    assert about["tasks"][kind]["kind"] == kind
    assert set(records.loc[records["task"] == kind, "split"]) == {"train", "validation", "test"}


def pairs(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "text_pair", "label"])


def test_a_premise_stands_in_several_pairs_of_one_split() -> None:
    rows = pairs(
        *((f"premise {n}", f"{word} {n}", word) for n in range(10) for word in ("yes", "no")),
        ("premise 0", "Yes, 0!", "yes"),  # the first pair again, but for its signs
        ("premise 1", "", "no"),
    )
    sizes = {"train": 10, "validation": 4, "test": 6}
    split = split_rows("nli", rows, "pair-classification", sizes, 0)
    assert {part: len(found) for part, found in split.rows.items()} == sizes
    assert (split.duplicates, split.empty) == (1, 1)
    premises = [set(part["text"]) for part in split.rows.values()]
    assert sum(map(len, premises)) == len(set.union(*premises))


def test_the_texts_of_a_pair_are_told_apart(tmp_path: Path) -> None:
    tiny_kinds.write_model(tmp_path)
    encoder = load_encoder(tmp_path, "mean")
    tokenizer = Tokenizer(tmp_path, longest_input(encoder))
    first, second = "filler1 filler2 filler3", "filler4"
    inputs = tokenizer.pairs([first, second], [second, first], 24)
    expected = transformers.AutoTokenizer.from_pretrained(tmp_path)(
        [first, second], [second, first], padding=True, return_tensors="pt"
    )
    assert inputs.segments == expected["token_type_ids"].tolist()
    assert inputs.segments == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
    with torch.inference_mode():
        states = encoder.body(**expected).last_hidden_state
    np.testing.assert_allclose(embed(encoder, inputs, 0, 64), states.mean(1), atol=1e-6)
    blind = embed(encoder, inputs.ids, 0, 64)
    assert np.abs(blind - embed(encoder, inputs, 0, 64)).max() > 0.01
    # The longer text is cut first.
    assert tokenizer.pairs([first], [second], 6).ids[0] == [*inputs.ids[0][:3], *inputs.ids[0][4:]]
    assert tokenizer.truncated([first, second], [second, first], max_length=6) == 2


@pytest.mark.parametrize(
    ("methods", "target", "said"),
    [
        ({"balance": {"by": "weights"}}, "token-classification", "works on labels"),
        ({"label-smoothing": {"share": 0.1}}, "multi-label", "works on labels"),
        ({"augment": {"swap": 0.1, "copies": 1}}, "extractive-qa", "stands at a place"),
        ({"augment": {"swap": 0.1, "copies": 1}}, "pair-regression", "is not known"),
        ({"augment": {"swap": 0.1, "copies": 1}}, "token-classification", "as they are"),
        (
            {"distil": {"weight": 1.0, "temperature": 2.0}},
            "extractive-qa",
            "has no classes to be unsure of; classification would fit",
        ),
    ],
)
def test_a_method_that_does_not_fit_a_kind_says_so(
    methods: dict[str, Any], target: str, said: str
) -> None:
    teacher = {"teacher": "models/tuned/elder"} if "distil" in methods else {}
    (reason,) = tiny_training.misfit(methods, target=target, **teacher)
    assert said in reason


@pytest.mark.parametrize("kind", tiny_kinds.DATA)
def test_every_edit_that_a_kind_allows_is_made(kind: str) -> None:
    """A kind is edited, or refused: none is forgotten."""
    assert (kind in AUGMENTED) != (kind in REFUSED)
