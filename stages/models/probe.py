"""A linear probe: logistic regression on frozen embeddings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge

from stages.phases import phase

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
    """What a probe is fitted on: of each row features [k, hidden] and labels.

    `head`: what it is to give, see stages/config/kinds.py. Of classes and words the labels are k
    classes, of a span the places of its first and last token among the k; of labels 0 or 1 for each
    label there is, of a value the value.
    """

    head: str
    features: Sequence[Floats]
    labels: Sequence[NDArray[Any]]

    @classmethod
    def of(cls, head: str, features: Sequence[Floats], labels: Iterable[ArrayLike]) -> "Sample":
        """`labels`: of each row one, or a list."""
        return cls(head, features, [np.atleast_1d(label) for label in labels])

    def __len__(self) -> int:
        return len(self.labels)

    def drawn(self, rows: Iterable[int]) -> "Sample":
        rows = list(rows)
        features = [self.features[row] for row in rows]
        return Sample(self.head, features, [self.labels[row] for row in rows])

    @property
    def varied(self) -> bool:
        """Whether there is something to tell apart."""
        if self.head in ("span", "labels", "value"):
            return True
        return len({label for row in self.labels for label in row.tolist()} - {UNKNOWN}) > 1

    @phase("probe")
    def fit(self, outputs: int) -> Probe:
        """Raises ValueError where it is not `varied`."""
        if self.head == "span":
            return fit_span(self.features, np.stack(self.labels))
        if self.head == "labels":
            return fit_labels(np.concatenate(self.features), np.stack(self.labels))
        features, labels = np.concatenate(self.features), np.concatenate(self.labels)
        if self.head == "value":
            return fit_value(features, labels)
        known = labels != UNKNOWN
        if not known.all():
            features, labels = features[known], labels[known]
        probe = fit_probe(features, labels, outputs)
        return _bounded(probe) if self.head == "words" else probe


def _bounded(probe: Probe) -> Probe:
    """With a probability of next to 0, rather than 0, for a class without a row: a tag may stand in
    the cut ends of sentences alone, and a head that says never cannot learn better."""
    lowest = probe.bias[np.isfinite(probe.bias)].min() + np.log(TINY)
    return Probe(probe.weight, np.where(np.isfinite(probe.bias), probe.bias, lowest))


TINY = 1e-12  # keeps embeddings that are all the same from being divided by zero
INVERSE_PENALTY = 0.01
"""scikit-learn's C on standardised embeddings, chosen on validation of the bundled tasks."""


def fit_probe(embeddings: Floats, labels: Ints, classes: int) -> Probe:
    """Fit on embeddings [n, hidden] and labels [n] in 0..classes-1.

    A class without a row gets a bias of -inf: probability 0. Raises ValueError where fewer
    than two classes have rows.
    """
    mean, spread = _scale(embeddings)
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


def fit_labels(embeddings: Floats, labels: Floats) -> Probe:
    """A logistic regression for each label, on embeddings [n, hidden] and labels [n, k] of 0 and 1.

    A label that all rows have, or none, gets a bias alone: the log odds with half a row more on
    either side.
    """
    rows = [_one_label(embeddings, column) for column in labels.T]
    return Probe(np.stack([weight for weight, _ in rows]), np.array([bias for _, bias in rows]))


def _one_label(embeddings: Floats, label: Floats) -> tuple[Floats, float]:
    if label.min() == label.max():
        odds = (label.sum() + 0.5) / (len(label) - label.sum() + 0.5)
        return np.zeros(embeddings.shape[1]), float(np.log(odds))
    probe = fit_probe(embeddings, label.astype(int), 2)
    return probe.weight[1] - probe.weight[0], float(probe.bias[1] - probe.bias[0])


def fit_value(embeddings: Floats, values: Floats) -> Probe:
    """Ridge regression of values [n] on embeddings [n, hidden], penalised as `fit_probe`."""
    mean, spread = _scale(embeddings)
    model = Ridge(alpha=1 / INVERSE_PENALTY)
    model.fit((embeddings - mean) / spread, values)
    weight = model.coef_ / spread
    return Probe(weight[None], np.array([float(model.intercept_ - weight @ mean)]))


def fit_span(features: Sequence[Floats], places: Ints) -> Probe:
    """Two logistic regressions, each conditional on its row: a softmax over a row's features
    [k, hidden] says which is the first, and another which is the last.

    `places` [rows, 2]: the right ones. Penalised as `fit_probe`; without a bias, which a softmax
    over places would not show.
    """
    together = np.concatenate(features)
    counts = np.array([len(row) for row in features])
    firsts = np.concatenate([[0], counts.cumsum()[:-1]])
    mean, spread = _scale(together)
    scaled = ((together - mean) / spread).astype(np.float32)
    weights = [_conditional(scaled, firsts, counts, firsts + side) for side in places.T]
    return Probe(np.stack(weights) / spread, np.zeros(2))


def _conditional(features: Floats, firsts: Ints, counts: Ints, right: Ints) -> Floats:
    """The weights [hidden] that minimise C sum(loss) + |w|^2 / 2. `firsts`, `counts` [rows]: where
    each row's features begin, and how many; `right` [rows]: which of all is the right one."""

    def objective(weight: Floats) -> tuple[float, Floats]:
        logits = (features @ weight.astype(np.float32)).astype(float)
        logits -= np.repeat(np.maximum.reduceat(logits, firsts), counts)
        total = np.add.reduceat(np.exp(logits), firsts)
        loss = float((np.log(total) - logits[right]).sum())
        slope = np.exp(logits) / np.repeat(total, counts)
        slope[right] -= 1
        gradient = features.T @ slope.astype(np.float32)
        penalised = INVERSE_PENALTY * loss + float(weight @ weight) / 2
        return penalised, INVERSE_PENALTY * gradient.astype(float) + weight

    found = minimize(objective, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def _scale(features: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of features [n, hidden]."""
    mean, spread = features.mean(0, dtype=float), features.std(0, dtype=float)
    # A dead unit is not blown up to the size of the others: the head would carry 1e31.
    return mean, np.maximum(spread, max(1e-3 * spread.max(), TINY))
