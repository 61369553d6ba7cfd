"""Spearman's correlation as one value an example whose mean it is."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from stages.statistics.intervals import Bootstrap
from stages.statistics.measures import measure_for, values
from stages.statistics.ranks import linearised_spearman

DRAW = np.random.default_rng(0)
CLOSE = DRAW.normal(size=300)
PAIRS = {
    "close": (CLOSE, CLOSE + DRAW.normal(size=300)),
    "against": (CLOSE, -(CLOSE**3) + DRAW.normal(size=300)),
    "ties": (DRAW.integers(0, 6, 300).astype(float), DRAW.integers(0, 3, 300).astype(float)),
    "few": (np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])),
    "same order": (CLOSE, np.exp(CLOSE)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_mean_is_scipys_correlation(name: str) -> None:
    first, second = PAIRS[name]
    expected = spearmanr(first, second).statistic
    found = linearised_spearman(first, second)
    assert found.shape == first.shape
    assert found.mean() == pytest.approx(expected, abs=1e-12)
    records = pd.DataFrame({"target": map(str, first), "prediction": map(str, second), "seed": 0})
    assert values(records, measure_for("regression", None)) == pytest.approx(found)


@pytest.mark.parametrize("name", ["close", "against"])
def test_it_varies_as_the_correlation_does(name: str) -> None:
    first, second = PAIRS[name]
    draw = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        rows = draw.integers(300, size=300)
        drawn.append(spearmanr(first[rows], second[rows]).statistic)
    values = linearised_spearman(first, second)
    error = float(values.std() / np.sqrt(len(values)))
    assert error == pytest.approx(np.std(drawn), rel=0.06)
    found = Bootstrap(range(300), 2000, 0).mean(values, 0.95)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_nothing_is_put_in_order_by_one_value() -> None:
    assert linearised_spearman([1, 2, 3], [5, 5, 5]).tolist() == [0, 0, 0]
