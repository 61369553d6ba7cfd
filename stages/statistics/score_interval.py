"""Intervals of a mean paired difference that keep a width where nothing was seen to differ.

A gate passes a drop that its interval excludes. The bootstrap, like every interval made from the
spread that was seen, is [0, 0] where no example flipped: it would pass any drop on 20 examples.
"""

import math
from collections.abc import Callable, Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm, skew, t

from stages.statistics.arrays import Floats, Integers, group_codes, vectors
from stages.statistics.intervals import Interval

_ROUNDING = 1e-9


def tango(lost: float, won: float, n: float, z: float) -> Interval:
    """Score interval of (lost - won) / n, a difference of paired proportions.

    Tango 1998, Statistics in Medicine 17, 891-908: the differences that the score test does not
    reject at `z` standard errors, the nuisance probability at its maximum likelihood under each.
    `lost` and `won` are the discordant pairs among `n`, not necessarily whole. Without any, the
    ends are -+ z^2 / (n + z^2). Raises ValueError for counts that do not fit.
    """
    if n <= 0 or lost < 0 or won < 0 or lost + won > n * (1 + _ROUNDING):
        raise ValueError(f"{lost} lost and {won} won of {n}")
    value = (lost - won) / n

    def beyond(side: int) -> float:
        def excess(delta: float) -> float:
            return lost - won - n * delta + side * z * _standard_error(lost, won, n, delta)

        # At the value itself the error may be 0, and the root found there would be no end.
        start, end = value + side * _ROUNDING, float(side)
        if side * start >= 1 or side * excess(end) >= 0:
            return end
        return float(brentq(excess, start, end, xtol=1e-12))

    return Interval(value, min(beyond(-1), value), max(beyond(1), value))


def _standard_error(lost: float, won: float, n: float, delta: float) -> float:
    """Of lost - won, where the true difference is delta."""
    b = (2 * n - lost + won) * delta - lost - won
    c = -won * delta * (1 - delta)
    nuisance = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    return math.sqrt(max(0.0, n * (2 * nuisance + delta * (1 - delta))))


def paired_interval(
    differences: ArrayLike, groups: Iterable[Hashable], confidence: float
) -> Interval:
    """Two-sided interval of the mean of differences[n] of scores in [0, 1]: Tango's.

    Differences that are parts of a point (several seeds, metrics that give part of one) count as
    such parts of a lost or won example, which makes the interval wider than it need be, never
    narrower. Where groups hold several examples, counts and n are divided by the design effect
    (Rao and Scott 1992, Biometrics 48, 577-585), the variance of the mean over groups by that over
    examples, and Student's t of the groups stands for z; groups of which none differs count as one
    example each. Never more than n: seeds are no more examples.
    Raises ValueError for fewer than 2 groups and for differences outside [-1, 1].
    """
    values, codes = checked(differences, groups)
    if np.abs(values).max() > 1 + _ROUNDING:
        raise ValueError(f"differences of scores in [0, 1] reach {np.abs(values).max()}")
    lost, won = float(values.clip(min=0).sum()), float(-values.clip(max=0).sum())
    n, count = len(values), int(codes.max()) + 1
    if count == n:
        return tango(lost, won, n, float(norm.ppf((1 + confidence) / 2)))
    of_examples = ((lost + won) / n - values.mean() ** 2) / n
    of_groups = variance_of_mean(values, codes)
    share = of_examples / of_groups if of_groups > _ROUNDING * of_examples else count / n
    share = min(1.0, share)
    z = float(t.ppf((1 + confidence) / 2, count - 1))
    return tango(share * lost, share * won, share * n, z)


def mean_interval(
    differences: ArrayLike, groups: Iterable[Hashable], confidence: float
) -> Interval:
    """Student's interval of the mean of differences[n] of any size, such as bits per byte.

    Over groups, as a ratio of their sums by their sizes (Cochran 1977, section 6.4), with one
    degree of freedom less than groups; moved by what their skewness adds, (1 + 2 t^2) / 6 of it by
    the root of their number in standard errors (Johnson 1978, JASA 73, 536-544), for a few texts
    that lost much are the rule; surer is never narrower. A difference of bits is never bounded or
    tied, so its spread shows.
    Raises ValueError for fewer than 2 groups.
    """
    values, codes = checked(differences, groups)
    value, count = float(values.mean()), int(codes.max()) + 1
    error = math.sqrt(variance_of_mean(values, codes))
    if error <= _ROUNDING * float(np.abs(values).max()):
        return Interval(value, value, value)
    reach = float(t.ppf((1 + confidence) / 2, count - 1))
    bend = float(skew(_residuals(values, codes))) / (6 * math.sqrt(count))
    # Beyond this reach the end on the short side would turn back towards the value.
    short = min(reach, 1 / (4 * abs(bend))) if bend else reach

    def end(side: int) -> float:
        far = reach if side * bend >= 0 else short
        return value + error * (bend * (1 + 2 * far**2) + side * far)

    return Interval(value, min(end(-1), value), max(end(1), value))


def stretched_interval(
    differences: ArrayLike, groups: Iterable[Hashable], confidence: float
) -> Interval:
    """Two-sided interval of the mean of differences[n] that are neither bounded nor sure to show a
    spread, such as those of a linearised F1: Student's, see `mean_interval`, stretched to hold
    Tango's of the differences cut to [-1, 1], which has a width where nothing differs.

    Raises ValueError for fewer than 2 groups.
    """
    groups = list(groups)
    found = mean_interval(differences, groups, confidence)
    least = paired_interval(np.clip(differences, -1, 1), groups, confidence)
    return Interval(found.value, min(found.low, least.low), max(found.high, least.high))


OfDifferences = Callable[[ArrayLike, Iterable[Hashable], float], Interval]
"""Differences [n], their groups and a confidence -> the two-sided interval of their mean."""


def interval_for(of_text: bool, of_all: bool) -> OfDifferences:
    """By what a measure is: see stages/statistics/measures.py."""
    if of_all:
        return stretched_interval
    return mean_interval if of_text else paired_interval


def checked(differences: ArrayLike, groups: Iterable[Hashable]) -> tuple[Floats, Integers]:
    """Values [n] and their groups as codes [n]. Raises ValueError for fewer than 2 groups."""
    (values,) = vectors(differences=differences)
    codes = group_codes(groups)
    if len(codes) != len(values):
        raise ValueError(f"{len(values)} differences, {len(codes)} groups")
    if codes.max() < 1:
        raise ValueError(f"{len(values)} examples in 1 group: needs 2 groups")
    return values, codes


def variance_of_mean(values: Floats, codes: Integers) -> float:
    """Of the mean of values [n], from the spread of their groups' sums (Cochran, see above)."""
    residuals = _residuals(values, codes)
    groups = len(residuals)
    return float((residuals**2).sum() * groups / (groups - 1) / len(values) ** 2)


def _residuals(values: Floats, codes: Integers) -> Floats:
    """Of each group's sum, [groups]."""
    return np.bincount(codes, weights=values - values.mean()).astype(np.float64)
