"""A linear probe: logistic regression on frozen embeddings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Probe:
    """weight [classes, hidden] and bias [classes], to be applied to raw embeddings."""

    weight: Floats
    bias: Floats

    def probabilities(self, embeddings: Floats) -> Floats:
        """[n, hidden] -> [n, classes]."""
        return np.asarray(softmax(self.logits(embeddings), axis=1))

    def logits(self, embeddings: Floats) -> Floats:
        """[n, hidden] -> [n, classes]."""
        return np.asarray(embeddings @ self.weight.T + self.bias)


UNKNOWN = -1
"""The label of a word whose tag the train split lacks: nothing is learned from it."""


@dataclass(frozen=True)
class Sample:
    """What a probe is fitted on: of each row features [k, hidden] and their k labels, classes."""

    features: Sequence[Floats]
    labels: Sequence[Ints]

    @classmethod
    def of(cls, features: Sequence[Floats], labels: Iterable[ArrayLike]) -> "Sample":
        """`labels`: of each row one, or a list."""
        return cls(features, [np.atleast_1d(label) for label in labels])

    def __len__(self) -> int:
        return len(self.labels)

    def drawn(self, rows: Iterable[int]) -> "Sample":
        rows = list(rows)
        return Sample([self.features[row] for row in rows], [self.labels[row] for row in rows])

    @property
    def varied(self) -> bool:
        """Whether there is something to tell apart."""
        return len({label for row in self.labels for label in row.tolist()} - {UNKNOWN}) > 1

    def fit(self, outputs: int) -> Probe:
        """Raises ValueError where it is not `varied`."""
        features, labels = np.concatenate(self.features), np.concatenate(self.labels)
        known = labels != UNKNOWN
        if not known.all():
            features, labels = features[known], labels[known]
        return fit_probe(features, labels, outputs)


TINY = 1e-12  # keeps embeddings that are all the same from being divided by zero
INVERSE_PENALTY = 0.01
"""scikit-learn's C on standardised embeddings, chosen on validation of the bundled tasks."""


def fit_probe(embeddings: Floats, labels: Ints, classes: int) -> Probe:
    """Fit on embeddings [n, hidden] and labels [n] in 0..classes-1.

    A class without a row gets a bias of -inf: probability 0. Raises ValueError where fewer
    than two classes have rows.
    """
    mean, spread = embeddings.mean(0, dtype=float), embeddings.std(0, dtype=float)
    # A dead unit is not blown up to the size of the others: the head would carry 1e31.
    spread = np.maximum(spread, max(1e-3 * spread.max(), TINY))
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000)
    model.fit(((embeddings - mean) / spread).astype(np.float32), labels)
    weight, bias = model.coef_.astype(float), model.intercept_.astype(float)
    if len(model.classes_) == 2:
        # scikit-learn keeps the log odds of the second class; split evenly, softmax restores it.
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    # The scaling is folded in, so that the probe can become a head on raw embeddings.
    weight = weight / spread
    bias = bias - weight @ mean
    whole_weight = np.zeros((classes, embeddings.shape[1]))
    whole_bias = np.full(classes, -np.inf)
    whole_weight[model.classes_], whole_bias[model.classes_] = weight, bias
    return Probe(whole_weight, whole_bias)
