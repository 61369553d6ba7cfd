"""A linear probe: logistic regression on frozen embeddings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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
        return np.asarray(softmax(embeddings @ self.weight.T + self.bias, axis=1))


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
