"""Spearman's rank correlation, as one value an example whose mean it is."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from stages.statistics.arrays import Floats, vectors


def spearman(records: pd.DataFrame) -> Floats:
    """See `linearised_spearman`; of `target` and `prediction`, numbers as text."""
    return linearised_spearman(
        *(records[column].astype(float).to_numpy() for column in ("target", "prediction"))
    )


def linearised_spearman(first: ArrayLike, second: ArrayLike) -> Floats:
    """Values [n] whose mean is Spearman's correlation of first[n] and second[n], ties in mid-ranks.

    rho plus its influence function at each example (Croux and Dehon 2010, Statistical Methods and
    Applications 19, 497-515, of ties too), so that what is known of means holds of it, to first
    order. 0 where either side is constant: nothing is put in order.
    """
    x, y = vectors(first=first, second=second)
    u, v = _shares(x), _shares(y)
    spreads = float(np.sqrt(u.var() * v.var()))
    if spreads == 0:
        return np.zeros(len(x))
    rho = float(((u - 0.5) * (v - 0.5)).mean()) / spreads
    both = _moment(x, u, y, v)
    own = _moment(x, u, x, u) / u.var() + _moment(y, v, y, v) / v.var()
    return np.asarray(rho + both / spreads - rho * own / 2)


def _shares(values: Floats) -> Floats:
    """The share of all that is less than each, ties counting half: its mean is 1/2."""
    return np.asarray((rankdata(values) - 0.5) / len(values))


def _moment(x: Floats, u: Floats, y: Floats, v: Floats) -> Floats:
    """What each example adds to the mean of u v, [n], mean 0: by its own product, and by raising
    the shares of those above it."""
    return np.asarray(u * v + _above(x, v) + _above(y, u) - 3 * (u * v).mean())


def _above(order: Floats, values: Floats) -> Floats:
    """The mean over all j of values[j] where order[j] is above each one's, ties counting half."""
    _, places = np.unique(order, return_inverse=True)
    sums = np.bincount(places, weights=values)
    higher = sums[::-1].cumsum()[::-1] - sums / 2
    return np.asarray(higher[places] / len(values))
