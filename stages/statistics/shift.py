"""How far two samples of texts are apart: in words, lengths, vectors and labels."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import entropy, rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.statistics.arrays import Floats, matrix, vectors

N_GRAM = 3
FOLDS = 5
INVERSE_PENALTY = 0.01
"""scikit-learn's C, as of the probes: there are more dimensions than texts."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Separation:
    """How well a classifier tells two samples apart, from vectors. 0.5: not at all."""

    auc: float
    error: float
    """The standard error of `auc`."""


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def n_gram_distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Jensen-Shannon distance (base 2, in [0, 1]) of the texts' character trigrams.

    It is above 0 for two samples of the same source, the more so the smaller they are: hold it
    against such a pair of the same size.
    """
    counts = [_n_grams(texts) for texts in (first, second)]
    known = sorted(counts[0].keys() | counts[1].keys())
    if not all(counts):
        return 0.0 if not any(counts) else 1.0
    one, other = (np.array([side[gram] for gram in known], dtype=np.float64) for side in counts)
    return float(jensenshannon(one, other, base=2))


def _n_grams(texts: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        line = " ".join(words(text))
        found.update(line[at : at + N_GRAM] for at in range(len(line) - N_GRAM + 1))
    return found


def unknown_words(known: Sequence[str], asked: Sequence[str]) -> float:
    """The share of the words of `asked`, repeats counted, that stand in no text of `known`."""
    vocabulary = {word for text in known for word in words(text)}
    found = [word not in vocabulary for text in asked for word in words(text)]
    return float(np.mean(found)) if found else 0.0


def mean_length(texts: Sequence[str]) -> float:
    """In words."""
    return float(np.mean([len(words(text)) for text in texts]))


def embedding_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Squared maximum mean discrepancy of first[n, d] and second[m, d], unbiased: 0 on average for
    two samples of one source.

    Gretton et al. 2012 (JMLR 13, 723-773), equation 3, with a Gaussian kernel as wide as the median
    distance. Raises ValueError for fewer than 2 rows.
    """
    x, y = matrix("first", first), matrix("second", second)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"{n} and {m} texts: needs 2 of each")
    pooled = np.concatenate([x, y])
    distances = cdist(pooled, pooled, "sqeuclidean")
    width = float(np.median(distances[np.triu_indices(n + m, 1)]))
    if width == 0:
        return 0.0
    kernel = np.exp(-distances / width)
    np.fill_diagonal(kernel, 0)
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def separation(first: ArrayLike, second: ArrayLike, seed: int) -> Separation:
    """A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): AUC of a logistic
    regression that tells first[n, d] from second[m, d], on folds it was not fitted on.

    The standard error is DeLong's (1988, Biometrics 44, 837-845).
    Raises ValueError for fewer rows than folds.
    """
    x, y = matrix("first", first), matrix("second", second)
    if min(len(x), len(y)) < FOLDS:
        raise ValueError(f"{len(x)} and {len(y)} texts: needs {FOLDS} of each")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=1000))
    sides = np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(
        model, np.concatenate([x, y]), sides, cv=folds, method="decision_function"
    )
    return delong(scores[sides == 1], scores[sides == 0])


def delong(positives: ArrayLike, negatives: ArrayLike) -> Separation:
    """AUC of scores, ties counting half, and its standard error.

    By ranks, as Sun and Xu 2014 (IEEE Signal Processing Letters 21, 1389-1393).
    """
    (x,), (y,) = vectors(positives=positives), vectors(negatives=negatives)
    m, n = len(x), len(y)
    pooled = rankdata(np.concatenate([x, y]))
    above = (pooled[:m] - rankdata(x)) / n
    below = 1 - (pooled[m:] - rankdata(y)) / m
    error = np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) if min(m, n) > 1 else 0.0
    return Separation(float(above.mean()), float(error))


def evenness(counts: ArrayLike) -> float:
    """The entropy of counts by its maximum (Pielou 1966): 1 where all labels are as frequent."""
    (found,) = vectors(counts=counts)
    return float(entropy(found) / np.log(len(found))) if len(found) > 1 else 1.0


def total_variation(first: ArrayLike, second: ArrayLike) -> float:
    """Half the sum of the differences of two distributions of labels, given as counts [k]."""
    one, other = vectors(first=first, second=second)
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)


def balance(counts: Floats) -> dict[str, float]:
    """Figures of one split's labels."""
    return {
        "evenness": evenness(counts),
        "rarest": float(counts.min() / counts.sum()),
        "commonest": float(counts.max() / counts.sum()),
    }
