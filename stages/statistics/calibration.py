"""Does a model know how sure it can be?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stages.statistics.arrays import Floats, matrix, vectors

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """`ece` in [0, 1], `brier` in [0, 2]; both 0 at best."""

    ece: float
    brier: float


def calibration(probabilities: ArrayLike, of_target: ArrayLike) -> Calibration:
    """Of probabilities[n, k] and the probability of each right answer, of_target[n].

    Expected calibration error over BINS bins of equal width (Guo et al. 2017, arXiv 1706.04599,
    equation 3) of the likeliest answer; Brier's score summed over answers (1950, Monthly Weather
    Review 78, 1-3). Raises ValueError for shapes that do not match.
    """
    table = matrix("probabilities", probabilities)
    _, target = vectors(rows=table[:, 0], of_target=of_target)
    sure = table.max(axis=1)
    right = (target >= sure - 1e-6).astype(np.float64)
    brier = float(((table**2).sum(axis=1) - 2 * target + 1).mean())
    return Calibration(_ece(sure, right), brier)


def _ece(sure: Floats, right: Floats) -> float:
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, weights=right - sure, minlength=BINS))
    return float(gaps.sum() / len(sure))
