"""Figures of generated texts against hand-worked cases and textbook formulas."""

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics.bleu import BLEU
from scipy.stats import norm

from stages.statistics.writing import distinct_2, jackknife, self_bleu, writing_figures


def test_distinct_2_by_hand() -> None:
    # a b, b a, a b; then b a: two bigrams, four times.
    assert distinct_2(["a b a b", "b a"]) == 2 / 4
    assert distinct_2(["a b c", "d e"]) == 1
    assert distinct_2(["one", ""]) == 0


def test_self_bleu() -> None:
    same = "the cat sat on the mat today"
    assert self_bleu([same] * 3) == pytest.approx(1)
    others = ["quite other words stand in here", "nothing shared with any of them", "a b c d e f"]
    assert self_bleu(others) < 0.1
    pair = [same, "the cat sat on a hat today"]
    bleu = BLEU(effective_order=True)
    expected = [bleu.sentence_score(a, [b]).score / 100 for a, b in (pair, pair[::-1])]
    assert self_bleu(pair) == pytest.approx(np.mean(expected))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    texts = ["a", "bbb", "cc", "dddddd", "ee"]
    lengths = np.array([len(text) / 10 for text in texts])
    found = jackknife(texts, lambda some: float(np.mean([len(one) / 10 for one in some])), 0.9)
    reach = norm.ppf(0.95) * lengths.std(ddof=1) / np.sqrt(5)
    assert found.value == pytest.approx(lengths.mean())
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))


def test_seeds_are_no_more_examples() -> None:
    def records(seeds: int) -> pd.DataFrame:
        rows = [
            {
                "example_id": str(n),
                "group": str(n),
                "seed": seed,
                "slice": "sport",
                "score": float(n % 4 > 0),
                "prediction": f"text {n} of many words",
            }
            for seed in range(seeds)
            for n in range(12)
        ]
        return pd.DataFrame(rows)

    once, thrice = (writing_figures(records(k), records(k), 0.95, 300, 1) for k in (1, 3))
    assert once == thrice
    assert once["topic_accuracy"].value == 0.75
    with pytest.raises(ValueError, match="needs 3"):
        writing_figures(records(1)[:2], records(1)[:2], 0.95, 300, 1)
