"""How alike two representations of the same inputs are."""

import numpy as np
from numpy.typing import ArrayLike

from stages.statistics.arrays import Floats, matrix


def debiased_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Linear centred kernel alignment of first[n, d] and second[n, e]; 1 for a rotation of it.

    Kornblith et al. 2019 (arXiv 1905.00414), with the unbiased HSIC of Song et al. 2012 (JMLR 13,
    1393-1434, section 3), as in Nguyen et al. 2021: the biased one nears 1 for any two where n is
    not far above d. May fall a little below 0 for unrelated ones.
    Raises ValueError for fewer than 4 rows, and where the rows of one are all the same.
    """
    x, y = matrix("first", first), matrix("second", second)
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"{len(x)} and {len(y)} rows: needs 4 or more, as many of both")
    k, m = _gram(x), _gram(y)
    scale = _hsic(k, k) * _hsic(m, m)
    if scale <= 0:
        raise ValueError("the rows of one representation do not differ")
    return float(_hsic(k, m) / np.sqrt(scale))


def _gram(x: Floats) -> Floats:
    centred = x - x.mean(axis=0)
    # Unit scale, so that no product of two under- or overflows.
    centred /= max(float(np.abs(centred).max()), 1e-300)
    gram: Floats = centred @ centred.T
    np.fill_diagonal(gram, 0)
    return gram


def _hsic(k: Floats, m: Floats) -> float:
    n = len(k)
    both = float(np.vdot(k, m))
    sums = float(k.sum()) * float(m.sum()) / ((n - 1) * (n - 2))
    rows = 2 * float(k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return (both + sums - rows) / (n * (n - 3))
