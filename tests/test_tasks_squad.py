"""SQuAD: its files, the windows that a question is asked of, and how answers are compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_kinds
from scipy.optimize import approx_fprime
from scipy.special import log_softmax

from stages.config.readers import Squad
from stages.errors import UserError
from stages.inputs.encoder import labels_of, read
from stages.models.probe import INVERSE_PENALTY, Sample, fit_span
from stages.models.texts import Inputs, Tokenizer
from stages.scoring.spans import LONGEST, best_span, span_records
from stages.sources.pinned import open_source
from stages.statistics.squad import exact, exact_matches, token_f1
from stages.storage import sha256_path
from stages.tasks.examples import Examples, Task, identify
from stages.tasks.splitting import split_rows
from stages.tasks.squad import read_squad

CONTEXT = "The Normans gave their name to Normandy, a region in France."

OFFICIAL = [
    (["the Eiffel Tower", "Eiffel"], "Eiffel tower!", 1.0, 1.0),
    (["a cat"], "The dog and a cat", 0.0, 0.5),
    ([], "", 1.0, 1.0),
    ([], "x", 0.0, 0.0),
    (["The"], "", 1.0, 1.0),
    (["1,000 people"], "1000 people", 1.0, 1.0),
    (["well-known U.S. man"], "well known US man", 0.0, 4 / 7),
    (["b b c"], "b c c", 0.0, 2 / 3),
    (["naïve Ünder"], "naïve ünder  the", 1.0, 1.0),
    (["308"], "", 0.0, 0.0),
]
"""Answers and a prediction, with the exact match and F1 of the official script, as transformers
4.44.2 has it in data/metrics/squad_metrics.py."""


@pytest.mark.parametrize(("answers", "prediction", "matches", "f1"), OFFICIAL)
def test_answers_are_compared_as_the_official_script_does(
    answers: list[str], prediction: str, matches: float, f1: float
) -> None:
    assert exact(answers, prediction) == matches
    assert token_f1(answers, prediction) == pytest.approx(f1, abs=1e-12)
    records = pd.DataFrame({"target": [json.dumps(answers)], "prediction": [prediction]})
    assert exact_matches(records).tolist() == [matches]


def asked(question: str, *answers: tuple[str, int], **told: Any) -> dict[str, Any]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"question": question, "id": question, "answers": found, **told}


def rows_of(path: Path, *questions: Any) -> pd.DataFrame:
    paragraph = {"context": CONTEXT, "qas": list(questions)}
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}))
    told = {"reader": "squad", "source": f"file:{path}", "sha256": sha256_path(path)}
    config = Squad.model_validate(told)
    return read_squad(open_source(config.source, sha256=config.sha256), config)


def test_questions_with_and_without_an_answer(tmp_path: Path) -> None:
    found = rows_of(
        tmp_path / "a.json",
        asked("Which region?", ("Normandy", 31), ("Normandy, a region in France", 31)),
        asked("Who?", ("The Normans", 0), is_impossible=True, plausible_answers=[]),
    )
    assert found["question"].tolist() == ["Which region?", "Who?"]
    assert found["answers"].tolist() == [["Normandy", "Normandy, a region in France"], []]
    assert found["starts"].tolist() == [[31, 31], []]
    assert found["slice"].tolist() == ["answered", "no answer"]
    many = pd.concat([found.assign(context=f"{CONTEXT} {n}") for n in range(12)], ignore_index=True)
    split = split_rows("qa", many, "extractive-qa", {"train": 9, "validation": 6, "test": 6}, 0)
    contexts = [set(part["context"]) for part in split.rows.values()]
    assert sum(map(len, contexts)) == len(set.union(*contexts))
    assert split.duplicates == 0


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (
            asked("Q", ("Normandy", 30)),
            "column 'answers': 'Normandy' does not stand at character 30",
        ),
        (asked("Q", ("Normandy", -29)), "'Normandy' does not stand at character -29"),
        ({"question": "Q"}, "row 1: is not what SQuAD has (KeyError: 'answers')"),
        ({**asked(""), "question": None}, "column 'question': is empty"),
        ("Q", "row 1: is not what SQuAD has"),
    ],
)
def test_a_wrong_file(tmp_path: Path, question: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        rows_of(tmp_path / "b.json", question)
    assert said in str(caught.value)
    assert "b.json" in str(caught.value)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("pairs")
    tiny_kinds.write_model(folder)
    return Tokenizer(folder, 64)


def examples(contexts: list[str], answers: list[str], no_answer: bool = True) -> Examples:
    rows = pd.DataFrame({"question": "filler0 filler1", "context": contexts})
    rows["answers"] = [[answer] if answer else [] for answer in answers]
    rows["starts"] = [
        [context.index(answer)] if answer else []
        for context, answer in zip(contexts, answers, strict=True)
    ]
    rows = identify(rows, "extractive-qa").assign(group="g", slice="all")
    return Examples(Task("qa", "extractive-qa", 12, (), {"no_answer": no_answer}), rows)


def test_windows_cover_a_context_and_find_its_answer(tokenizer: Tokenizer) -> None:
    words = tiny.FILLER[:20]
    long, short = " ".join(words), "name1 name2"
    asked = examples([long, short, short], ["filler9 filler10", "name2", ""])
    inputs = read(asked, tokenizer)
    assert inputs.owners is not None and inputs.items is not None and inputs.places is not None
    assert max(map(len, inputs.ids)) <= 12
    assert inputs.segments is not None
    covered = set()
    for owner, items, places, segments in zip(
        inputs.owners, inputs.items, inputs.places, inputs.segments, strict=True
    ):
        assert places[0] == 0 and items[0] == (0, 0)
        assert all(segments[place] == 1 for place in places[1:])
        if owner == 0:
            covered |= {long[start:end] for start, end in items[1:]}
    assert covered == set(words)
    labels = labels_of(asked, inputs)
    held = 0
    for owner, items, (first, last) in zip(inputs.owners, inputs.items, labels, strict=True):
        text = asked.column("context")[owner][items[first][0] : items[last][1]]
        assert text in ("", ["filler9 filler10", "name2", ""][owner])
        held += bool(text)
    assert held >= 2
    assert labels[inputs.owners.index(2)] == (0, 0)


def test_the_best_span() -> None:
    draw = np.random.default_rng(0)
    for size in (1, 2, 50):
        firsts, lasts = draw.normal(size=(2, size))
        every = [
            (firsts[i] + lasts[j], i, j)
            for i in range(size)
            for j in range(i, size)
            if j < i + LONGEST
        ]
        assert best_span(firsts, lasts) == pytest.approx(max(every))
    far = np.zeros(LONGEST + 1), np.zeros(LONGEST + 1)
    far[0][0], far[1][-1] = 9, 9
    score, first, last = best_span(*far)
    assert score == 9 and last - first < LONGEST


def test_answers_are_chosen_over_windows(tokenizer: Tokenizer) -> None:
    context = " ".join(tiny.FILLER[:6])
    items = [[(0, 0), (0, 7), (8, 15)], [(0, 0), (16, 23), (24, 31)]]
    windows = [[[2, 2], [1, 0], [0, 1]], [[1, 1], [0, 0], [3, 4]]]
    logits = [np.array(window, dtype=float) for window in windows]

    def answer(no_answer: bool, *nothing: float) -> Any:
        for window, value in zip(logits, nothing, strict=True):
            window[0] = value
        asked = examples([context], ["filler3"], no_answer)
        inputs = Inputs([[0]] * 2, None, [[0, 1, 2]] * 2, items, [0, 0])
        return span_records(asked, "test", inputs, logits).iloc[0].to_dict()

    sure = answer(True, 4, 1)
    assert (sure["prediction"], sure["score"], sure["chance"]) == ("filler3", 1, 0)
    assert json.loads(sure["target"]) == ["filler3"]
    assert answer(True, 4, 4)["prediction"] == ""  # in every window rather none
    assert answer(False, 4, 4)["prediction"] == "filler3"


def test_the_probe_of_spans_is_at_its_minimum() -> None:
    """Where the penalised loss does not fall in any direction; and it finds what tells."""
    draw = np.random.default_rng(0)
    counts = draw.integers(3, 9, 80)
    features = [draw.normal(2, 3, (count, 5)).astype(np.float32) for count in counts]
    places = np.stack([[row[:, 0].argmax(), row[:, 1].argmax()] for row in features])
    probe = Sample.of("span", features, places).fit(2)
    together = np.concatenate(features)
    mean, spread = together.mean(0), together.std(0)

    def loss(weight: np.ndarray, side: int) -> float:
        each = [
            -log_softmax((row - mean) / spread @ weight)[right]
            for row, right in zip(features, places[:, side], strict=True)
        ]
        return float(INVERSE_PENALTY * sum(each) + weight @ weight / 2)

    for side in (0, 1):
        weight = probe.weight[side] * spread
        slopes = approx_fprime(weight, loss, 1e-6, side)
        assert np.abs(slopes).max() < 2e-3
        assert loss(weight, side) < loss(np.zeros(5), side)
        assert np.abs(weight).argmax() == side
    right = [row @ probe.weight.T for row in features]
    found = np.stack([logits.argmax(0) for logits in right])
    assert (found == places).mean() > 0.9
    again = fit_span(features, places)
    np.testing.assert_array_equal(again.weight, probe.weight)
