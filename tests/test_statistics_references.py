"""Scores of what was written: worked by hand, or from the reference implementations' own tests."""

import json

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from stages.config.tasks import COLUMNS, OPTIONS
from stages.report.units import unit_of
from stages.statistics.measures import OF_COMPLETIONS, measure_for, values
from stages.statistics.references import SCORES

CASES: list[tuple[str, list[str], str, float]] = [
    ("exact-match", ["Paris"], "Paris", 1),
    ("exact-match", [" Paris\n"], "Paris ", 1),
    ("exact-match", ["Rome", "Paris"], "Paris", 1),
    ("exact-match", ["Paris"], "paris", 0),
    ("exact-match", ["-5"], "5", 0),
    # Articles, case and punctuation aside: two of three words, two of two.
    ("f1", ["the Eiffel tower, Paris"], "eiffel tower", 0.8),
    ("f1", ["Rome", "Paris"], "A Paris!", 1),
    ("f1", ["Paris"], "", 0),
    # rouge-score 0.1.2, rouge_scorer_test.py: testRougeLConsecutive, testRougeLNonConsecutive,
    # testRougeAllMulti, testRougeEmpty.
    ("rouge-l", ["testing one two"], "testing one", 4 / 5),
    ("rouge-l", ["testing one two"], "testing two", 4 / 5),
    ("rouge-l", ["first text", "first something"], "text first", 0.5),
    ("rouge-l", ["testing one two"], "", 0),
    # Lin 2004, section 3.1: "the gunman kill police" keeps the order of two words of four.
    ("rouge-l", ["police killed the gunman"], "the gunman kill police", 0.5),
    # Precision and recall of 1-, 2- and 3-grams of characters are 2/3, 1/2 and 0.
    ("chrf", ["abc"], "abd", (2 / 3 + 1 / 2 + 0) / 3),
    # Precisions 1, 1; recalls 1/2 and 1/3 of the orders that both have: F2 of the means.
    ("chrf", ["abcd"], "ab", 5 * 1 * (5 / 12) / (4 * 1 + 5 / 12)),
    ("chrf", ["xyz", "abc"], "abc", 1),
    ("chrf", ["abc"], "", 0),
    # 5 of 6 words, 3 of 5, 2 of 4 and 1 of 3 n-grams; as long as the reference.
    ("bleu", ["the cat sat on a mat"], "the cat sat on the mat", (5 / 6 * 3 / 5 / 2 / 3) ** 0.25),
    # Two words of the two, one pair of the one, and no order more; half as long: exp(1 - 4 / 2).
    ("bleu", ["a b c d"], "a b", np.exp(-1)),
    ("bleu", ["the cat sat on the mat", "x"], "the cat sat on the mat", 1),
    ("bleu", ["the cat"], "", 0),
]


@pytest.mark.parametrize(("metric", "references", "written", "score"), CASES)
def test_a_score(metric: str, references: list[str], written: str, score: float) -> None:
    found = SCORES[metric](references, written)
    assert found == pytest.approx(score, abs=1e-9)
    assert 0 <= found <= 1


def test_scores_are_those_of_the_reference_implementations() -> None:
    texts = [
        ("There is a cat on the mat, isn't there?", "A cat is on the mat."),
        ("Die Katze liegt auf der Matte.", "Auf der Matte liegt eine Katze!"),
        ("1,000 metres", "1000 m"),
    ]
    rouge = RougeScorer(["rougeL"])
    for reference, written in texts:
        chrf = sacrebleu.sentence_chrf(written, [reference]).score / 100
        bleu = sacrebleu.sentence_bleu(written, [reference]).score / 100
        assert SCORES["chrf"]([reference], written) == pytest.approx(chrf)
        assert SCORES["bleu"]([reference], written) == pytest.approx(bleu)
        longest = rouge.score(reference, written)["rougeL"].fmeasure
        assert SCORES["rouge-l"]([reference], written) == pytest.approx(longest)


def test_every_metric_has_a_measure_and_a_unit() -> None:
    assert set(SCORES) == set(OF_COMPLETIONS)
    assert COLUMNS["completion"] == ("prompt", "completion")
    assert "metric" in OPTIONS["completion"]
    records = pd.DataFrame(
        {"score": [0.25, 0.75], "seed": 0, "target": [json.dumps(["a"])] * 2, "prediction": "b"}
    )
    for metric in SCORES:
        measure = measure_for("completion", metric)
        assert values(records, measure).tolist() == [0.25, 0.75]
        assert unit_of(measure.name).name not in (f"% {measure.name}", "")
    # lm-eval's metrics are its own, whatever they are called.
    assert measure_for("lm-eval", "f1").name == "f1"
