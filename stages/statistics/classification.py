"""Accuracy, precision, recall, F1 and AUC of a classifier, with bootstrap intervals."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from stages.statistics.arrays import Floats, Integers, matrix, vectors
from stages.statistics.intervals import Bootstrap, Interval, percentile

MACRO = ("precision", "recall", "f1")


def report(
    targets: ArrayLike,
    predictions: ArrayLike,
    probabilities: ArrayLike,
    bootstrap: Bootstrap,
    confidence: float,
) -> dict[str, Interval]:
    """The figures of a classifier over k classes, each in [0, 1].

    targets[n] and predictions[n] are classes 0 .. k-1, probabilities is [n, k]. Keys:

    - accuracy;
    - precision, recall, f1: macro means over the classes present in targets or predictions,
      0 where a class has no predictions or no targets, as scikit-learn's zero_division=0;
    - auc: macro mean, one class against the rest, over the classes with both positives and
      negatives; left out where targets hold one class only, since it is undefined there.

    The values are scikit-learn's. The intervals are percentiles of the same figures over the
    resamples of `bootstrap`; a class that vanished from a resample is left out of its means,
    and a resample of one class out of the interval of auc.
    Raises ValueError for shapes that do not match and for classes outside 0 .. k-1.
    """
    scores = matrix("probabilities", probabilities)
    n, k = scores.shape
    truth, guess = _classes(targets, predictions, k)
    if len(truth) != n:
        raise ValueError(f"{len(truth)} targets, {n} rows of probabilities")
    figures = {"accuracy": bootstrap.mean(truth == guess, confidence)}
    values = precision_recall_fscore_support(truth, guess, average="macro", zero_division=0)
    two_sided = [c for c in range(k) if 0 < (truth == c).sum() < n]
    rankings = [Ranking.of(truth == c, scores[:, c]) for c in two_sided]

    macro, areas = [], []
    for weights in bootstrap.weights():
        macro.append(macro_figures(truth, guess, k, weights))
        areas.append(macro_auc(rankings, weights))
    draws = np.concatenate(macro, axis=1)
    for name, value, resampled in zip(MACRO, values[:3], draws, strict=True):
        figures[name] = percentile(float(value), resampled, confidence)
    defined = np.concatenate(areas)
    defined = defined[np.isfinite(defined)]
    if len(defined):
        value = np.mean([roc_auc_score(truth == c, scores[:, c]) for c in two_sided])
        figures["auc"] = percentile(float(value), defined, confidence)
    return figures


def _classes(targets: ArrayLike, predictions: ArrayLike, k: int) -> tuple[Integers, Integers]:
    named = vectors(targets=targets, predictions=predictions)
    for name, values in zip(("targets", "predictions"), named, strict=True):
        outside = int((~np.isin(values, np.arange(k))).sum())
        if outside:
            raise ValueError(f"{outside} of {len(values)} {name} are not classes 0 to {k - 1}")
    truth, guess = (values.astype(np.int64) for values in named)
    return truth, guess


def _mean_where(values: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Mean of values[rows, columns] over the chosen columns of each row; NaN where none is."""
    total: Floats = np.where(chosen, values, 0.0).sum(axis=1)
    count = chosen.sum(axis=1)
    means = np.full(len(total), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def macro_figures(truth: Integers, guess: Integers, k: int, weights: Floats) -> Floats:
    """Weighted macro precision, recall and F1, [3, draws], of classes [n] under [draws, n].

    As scikit-learn's with sample_weight, but for classes without any weight, which are left
    out of the mean: scikit-learn counts them as 0.
    """
    n = len(truth)
    right = np.flatnonzero(truth == guess)

    def weight_by_class(rows: Integers, classes: Integers) -> Floats:
        one_hot = csr_array((np.ones(len(rows)), (rows, classes)), shape=(n, k))
        return np.asarray(weights @ one_hot, dtype=np.float64)

    everyone = np.arange(n)
    positive = weight_by_class(everyone, truth)
    predicted = weight_by_class(everyone, guess)
    hits = weight_by_class(right, truth[right])
    both = positive + predicted
    figures = _ratio(hits, predicted), _ratio(hits, positive), _ratio(2 * hits, both)
    return np.stack([_mean_where(figure, both > 0) for figure in figures])


@dataclass(frozen=True)
class Ranking:
    """Positives among negatives in the order of one score; sorted once, weighted often."""

    positives: Integers
    negatives: Integers
    """By rising score."""
    lower: Integers
    """For each positive, how many negatives score less."""
    not_higher: Integers
    """For each positive, how many negatives score less or the same."""

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: Floats) -> Self:
        """Rank scores[n] of positive[n] and the other examples."""
        positives, others = np.flatnonzero(positive), np.flatnonzero(~positive)
        negatives = others[np.argsort(scores[others])]
        return cls(
            positives,
            negatives,
            np.searchsorted(scores[negatives], scores[positives], side="left"),
            np.searchsorted(scores[negatives], scores[positives], side="right"),
        )

    def auc(self, by_example: Floats) -> Floats:
        """Weighted area under the ROC curve, [draws], of weights [n, draws].

        The share of the weight of (positive, negative) pairs that is ordered rightly, a tie
        counting half (Mann and Whitney 1947); NaN where either side has no weight.
        """
        draws = by_example.shape[1]
        positive = by_example[self.positives]
        passed = np.zeros((len(self.negatives) + 1, draws))
        np.cumsum(by_example[self.negatives], axis=0, out=passed[1:])
        wins = (positive * (passed[self.lower] + passed[self.not_higher])).sum(axis=0) / 2
        pairs = positive.sum(axis=0) * passed[-1]
        areas = np.full(draws, np.nan)
        np.divide(wins, pairs, out=areas, where=pairs > 0)
        return areas


def macro_auc(rankings: list[Ranking], weights: Floats) -> Floats:
    """Mean over the rankings of the AUC under weights [draws, n], [draws]; NaN left out."""
    # Examples in rows: a ranking then picks whole rows, and sums run along memory.
    by_example = np.ascontiguousarray(weights.T)
    areas = np.empty((len(weights), len(rankings)))
    for column, ranking in enumerate(rankings):
        areas[:, column] = ranking.auc(by_example)
    return _mean_where(areas, np.isfinite(areas))
