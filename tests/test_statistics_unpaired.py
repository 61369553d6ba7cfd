"""Welch's interval, calibration and relabelling: against libraries and by hand."""

import numpy as np
import pytest
from scipy.stats import ttest_ind
from sklearn.metrics import brier_score_loss

from stages.statistics.calibration import calibration
from stages.statistics.relabelling import relabel
from stages.statistics.unpaired import difference

generator = np.random.default_rng(0)


def test_difference_is_welchs() -> None:
    x, y = generator.normal(1, 2, 30), generator.normal(0, 1, 12)
    found = difference(x, range(30), y, range(12), 0.9)
    expected = ttest_ind(x, y, equal_var=False).confidence_interval(0.9)
    assert found.value == pytest.approx(x.mean() - y.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_copies_in_a_group_count_once() -> None:
    x, y = generator.normal(1, 2, 30), generator.normal(0, 1, 12)
    once = difference(x, range(30), y, range(12), 0.9)
    copied = difference(np.repeat(x, 3), np.repeat(np.arange(30), 3), y, range(12), 0.9)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


def test_equal_samples_without_spread() -> None:
    found = difference([1, 1], "ab", [1, 1, 1], "abc", 0.95)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_calibration_by_hand() -> None:
    # Sure by 0.8 and right in half of the cases: 0.3 off. Brier: .04 + .04 and .64 + .64.
    found = calibration([[0.8, 0.2], [0.8, 0.2]], [0.8, 0.2])
    assert found.ece == pytest.approx(0.3)
    assert found.brier == pytest.approx((0.08 + 1.28) / 2)
    sure = calibration([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    assert (sure.ece, sure.brier) == (0, 0)


def test_brier_is_scikit_learns() -> None:
    table = generator.dirichlet(np.ones(2), 50)
    targets = generator.integers(2, size=50)
    found = calibration(table, table[np.arange(50), targets])
    assert found.brier == pytest.approx(2 * brier_score_loss(targets, table[:, 1]))


def test_a_calibrated_model_has_a_small_ece() -> None:
    table = generator.dirichlet(np.ones(4), 20_000)
    targets = (generator.random((20_000, 1)) > table.cumsum(axis=1)).sum(axis=1)
    assert calibration(table, table[np.arange(20_000), targets]).ece < 0.01


def test_swapped_names_are_found() -> None:
    targets = generator.integers(3, size=200)
    answers = np.array([1, 0, 2])[targets]
    found = relabel(targets, answers, 3, 0.95)
    assert found.renamed == 1
    assert found.accuracy == pytest.approx((targets == 2).mean())
    assert found.low > 0
    assert found.moved == ((0, 1), (1, 0))


@pytest.mark.parametrize("accuracy", [0.25, 0.6, 0.95])
def test_chance_renames_nothing(accuracy: float) -> None:
    claims = 0
    for _ in range(200):
        targets = generator.integers(4, size=120)
        answers = np.where(
            generator.random(120) < accuracy, targets, generator.integers(4, size=120)
        )
        claims += relabel(targets, answers, 4, 0.95).low > 0
    assert claims <= 20


def test_answers_that_are_right_keep_their_names() -> None:
    targets = generator.integers(4, size=120)
    found = relabel(targets, targets, 4, 0.95)
    assert (found.accuracy, found.renamed, found.moved) == (1, 1, ())
