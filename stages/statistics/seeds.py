"""Several training seeds: averaged per example, their spread shown apart.

Seeds are not more examples. An interval over examples takes `seed_mean`, and what the choice
of seed adds is `seed_spread`.
"""

import numpy as np
from numpy.typing import ArrayLike

from stages.statistics.arrays import Floats, matrix, vectors


def seed_mean(scores: ArrayLike) -> Floats:
    """Mean over seeds of scores[seeds, n], one value an example [n]."""
    return np.asarray(matrix("scores", scores).mean(axis=0), dtype=np.float64)


def seed_spread(means: ArrayLike) -> float | None:
    """Standard deviation (n - 1) between means[seeds]; None for one seed, which shows none."""
    (values,) = vectors(means=means)
    return float(values.std(ddof=1)) if len(values) > 1 else None
