"""The classifier's figures against scikit-learn, with weights, ties and vanished classes."""

import time

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from stages.statistics.arrays import Floats, Integers
from stages.statistics.classification import Ranking, macro_auc, macro_figures, report
from stages.statistics.intervals import Bootstrap


def sample(n: int, k: int, seed: int) -> tuple[Integers, Integers, Floats]:
    """Targets, predictions and probabilities of a fair classifier; coarse, so that it ties."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(k, size=n)
    probabilities = generator.dirichlet(np.ones(k), size=n)
    probabilities[np.arange(n), targets] += 0.15
    probabilities = np.round(probabilities, 1)
    return targets, probabilities.argmax(axis=1), probabilities


def sklearn_macro(
    targets: Integers, predictions: Integers, weights: Floats | None = None
) -> list[float]:
    figures = precision_recall_fscore_support(
        targets, predictions, average="macro", zero_division=0, sample_weight=weights
    )
    return [float(figure) for figure in figures[:3]]


def sklearn_auc(targets: Integers, probabilities: Floats, weights: Floats | None = None) -> float:
    areas = [
        roc_auc_score(targets == c, probabilities[:, c], sample_weight=weights)
        for c in range(probabilities.shape[1])
        if 0 < (targets == c).sum() < len(targets)
    ]
    return float(np.mean(areas))


def rankings(targets: Integers, probabilities: Floats) -> list[Ranking]:
    classes = range(probabilities.shape[1])
    return [Ranking.of(targets == c, probabilities[:, c]) for c in classes]


@pytest.mark.parametrize(("n", "k"), [(40, 2), (60, 5), (150, 22)])
def test_weighted_figures_are_scikit_learns(n: int, k: int) -> None:
    targets, predictions, probabilities = sample(n, k, seed=n)
    weights = np.random.default_rng(1).uniform(0.1, 3, size=(4, n))
    macro = macro_figures(targets, predictions, k, weights)
    areas = macro_auc(rankings(targets, probabilities), weights)
    for draw, row in enumerate(weights):
        assert macro[:, draw] == pytest.approx(sklearn_macro(targets, predictions, row))
        assert areas[draw] == pytest.approx(sklearn_auc(targets, probabilities, row))


def test_resampled_figures_are_those_of_the_repeated_rows() -> None:
    # Whole weights with zeros: classes vanish, and are then as if they had never been there.
    n, k = 30, 12
    targets, predictions, probabilities = sample(n, k, seed=2)
    weights = np.concatenate(list(Bootstrap(range(n), 25, seed=0).weights()))
    macro = macro_figures(targets, predictions, k, weights)
    areas = macro_auc(rankings(targets, probabilities), weights)
    vanished = 0
    for draw, row in enumerate(weights.astype(int)):
        repeated = np.repeat(np.arange(n), row)
        vanished += len(set(targets[repeated])) < len(set(targets))
        assert macro[:, draw] == pytest.approx(
            sklearn_macro(targets[repeated], predictions[repeated])
        )
        assert areas[draw] == pytest.approx(sklearn_auc(targets[repeated], probabilities[repeated]))
    assert vanished > 0


def test_auc_worked_by_hand() -> None:
    # Positives .8 and .4, negatives .4, .1, .9. Pairs: .8 beats .4 and .1; .4 ties .4 and
    # beats .1: (2 + 1.5) / 6. With weight 3 on .9: (2 + 1.5) / (2 * 5).
    ranking = Ranking.of(
        np.array([True, True, False, False, False]), np.array([0.8, 0.4, 0.4, 0.1, 0.9])
    )
    weights = np.array([[1.0, 1, 1, 1, 1], [1, 1, 1, 1, 3], [0, 0, 1, 1, 1]]).T
    areas = ranking.auc(weights)
    assert areas[:2] == pytest.approx([3.5 / 6, 0.35])
    assert np.isnan(areas[2])


@pytest.mark.parametrize(("n", "k"), [(80, 2), (200, 6)])
def test_report_has_scikit_learns_values_inside_its_intervals(n: int, k: int) -> None:
    targets, predictions, probabilities = sample(n, k, seed=9)
    groups = np.arange(n) // 2
    figures = report(targets, predictions, probabilities, Bootstrap(groups, 200, seed=0), 0.9)
    assert list(figures) == ["accuracy", "precision", "recall", "f1", "auc"]
    expected = [
        accuracy_score(targets, predictions),
        *sklearn_macro(targets, predictions),
        sklearn_auc(targets, probabilities),
    ]
    assert [figure.value for figure in figures.values()] == pytest.approx(expected)
    for figure in figures.values():
        assert 0 <= figure.low < figure.value < figure.high <= 1


def test_a_class_without_targets_counts_where_predicted_and_not_in_auc() -> None:
    # Class 2 is predicted once and never true; class 3 is nowhere.
    # Precision (2/2 + 1/1 + 0/1) / 3, recall (2/3 + 1/1 + 0) / 3; AUC over classes 0 and 1.
    targets, predictions = [0, 0, 0, 1], [0, 0, 2, 1]
    probabilities = [[0.7, 0.2, 0.1, 0], [0.6, 0.3, 0.1, 0], [0.1, 0.3, 0.6, 0], [0.2, 0.7, 0.1, 0]]
    figures = report(targets, predictions, probabilities, Bootstrap(range(4), 50, seed=0), 0.9)
    assert figures["accuracy"].value == 0.75
    assert figures["precision"].value == pytest.approx(2 / 3)
    assert figures["recall"].value == pytest.approx(5 / 9)
    # Class 0: .7, .6, .1 against .2 gives 2/3; class 1: .7 against the rest gives 1.
    assert figures["auc"].value == pytest.approx(5 / 6)


def test_one_class_has_no_auc() -> None:
    probabilities = np.full((5, 2), 0.5)
    figures = report([0] * 5, [0] * 5, probabilities, Bootstrap(range(5), 10, seed=0), 0.9)
    assert list(figures) == ["accuracy", "precision", "recall", "f1"]


def test_a_perfect_classifier() -> None:
    targets = np.arange(30) % 3
    figures = report(targets, targets, np.eye(3)[targets], Bootstrap(range(30), 50, seed=0), 0.9)
    assert all(f.low == f.value == f.high == 1 for f in figures.values())


def test_many_classes_are_quick() -> None:
    targets, predictions, probabilities = sample(1500, 22, seed=0)
    started = time.perf_counter()
    report(targets, predictions, probabilities, Bootstrap(range(1500), 1000, seed=0), 0.95)
    assert time.perf_counter() - started < 8


def test_mismatches_are_counted() -> None:
    bootstrap, even = Bootstrap(range(3), 10, seed=0), np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="2 targets, 3 predictions"):
        report([0, 1], [0, 1, 0], even, bootstrap, 0.9)
    with pytest.raises(ValueError, match="2 targets, 3 rows of probabilities"):
        report([0, 1], [0, 1], even, bootstrap, 0.9)
    with pytest.raises(ValueError, match="3 values for 4 examples of the bootstrap"):
        report([0, 1, 0], [0, 1, 0], even, Bootstrap(range(4), 10, seed=0), 0.9)
    with pytest.raises(ValueError, match="1 of 3 targets are not classes 0 to 1"):
        report([0, 1, 2], [0, 1, 0], even, bootstrap, 0.9)
    with pytest.raises(ValueError, match="1 of 3 predictions are not classes 0 to 1"):
        report([0, 1, 0], [0, 0.5, 0], even, bootstrap, 0.9)
