"""How far a mean over examples can be trusted: score and bootstrap intervals."""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from stages.statistics.arrays import Floats, group_codes, vectors

# The most resampled weights held at once: 64 MB of float64.
_CELLS = 1 << 23
# A sample of so few distinct values is resampled by value, not by example.
_FEW_VALUES = 64


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval; low <= value <= high."""

    value: float
    low: float
    high: float


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    return (1 - confidence) / 2


def wilson(successes: int, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22, 209-212).

    It keeps a width at 0 and at n successes, where the bootstrap has none. It takes the n
    examples as independent: use `Bootstrap` where they are clustered.
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} examples")
    low, high = proportion_confint(successes, n, alpha=2 * _tail(confidence), method="wilson")
    value = successes / n
    return Interval(value, min(float(low), value), max(float(high), value))


def percentile(value: float, resampled: ArrayLike, confidence: float) -> Interval:
    """Percentile interval (Efron and Tibshirani 1993, section 13.3) of resampled[draws].

    It is stretched to hold `value`, which a biased statistic may leave outside.
    """
    tail = _tail(confidence)
    low, high = np.quantile(np.asarray(resampled, dtype=np.float64), [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value))


def mean_of(intervals: Sequence[Interval]) -> Interval:
    """Of the mean of independent estimates: their distances to each end add up as errors do (MOVER,
    Zou and Donner 2008, Statistics in Medicine 27, 1693-1702)."""
    value = sum(one.value for one in intervals) / len(intervals)
    below = math.hypot(*(one.value - one.low for one in intervals)) / len(intervals)
    above = math.hypot(*(one.high - one.value for one in intervals)) / len(intervals)
    return Interval(value, value - below, value + above)


class Bootstrap:
    """Cluster bootstrap: whole groups are drawn with replacement, as many as there are.

    Field and Welsh 2007 (JRSS B 69, 369-390), "cluster bootstrap". A group is one or more
    examples that stand or fall together; where every group is one example this is the
    ordinary bootstrap. All statistics of one Bootstrap see the same resamples, so that runs
    compared on one task differ by the runs and not by the drawing.

    Deterministic in `seed`. No more than `_CELLS` weights (64 MB) are kept, however many
    examples there are; where all `draws` resamples fit they are drawn once and kept.
    """

    def __init__(self, groups: Iterable[Hashable], draws: int, seed: int) -> None:
        """`groups` [n]: one label an example.

        Raises ValueError for fewer than 2 groups: resampling one group shows no spread, and
        an interval without width would pass any gate.
        """
        self._codes = group_codes(groups)
        self._sizes = np.bincount(self._codes)
        self._draws = draws
        self._seed = seed
        if len(self._sizes) < 2:
            raise ValueError(f"{self.n} examples in {len(self._sizes)} group(s): needs 2 groups")
        if draws < 1:
            raise ValueError(f"{draws} draws: needs at least 1")

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self._codes)

    def mean(self, values: ArrayLike, confidence: float) -> Interval:
        """Percentile interval of the mean of values[n] over examples.

        A resample's mean is a ratio, the sum over its groups by their number of examples,
        since groups differ in size. Values that never vary give an interval of no width: see
        `proportion`.
        """
        (scores,) = vectors(values=values)
        self._check(len(scores))
        return percentile(float(scores.mean()), self._resampled_means(scores), confidence)

    def proportion(self, values: ArrayLike, confidence: float) -> Interval:
        """The mean of values[n] in [0, 1], with the wider of the bootstrap's and Wilson's ends."""
        drawn = self.mean(values, confidence)
        scored = wilson(round(drawn.value * self.n), self.n, confidence)
        return Interval(drawn.value, min(drawn.low, scored.low), max(drawn.high, scored.high))

    def resampled(self, values: Floats) -> Floats:
        """The means of values [k, n] in each resample: [draws, k], for figures of several means."""
        self._check(values.shape[1])
        groups = len(self._sizes)
        sums = np.zeros((groups, len(values) + 1))
        np.add.at(sums, self._codes, np.column_stack([values.T, np.ones(self.n)]))
        rows = max(1, _CELLS // groups)
        totals = np.concatenate([chunk @ sums for chunk in self._multiplicities(rows)])
        return np.asarray(totals[:, :-1] / totals[:, -1:], dtype=np.float64)

    def weights(self) -> Iterator[Floats]:
        """The resamples as example weights, in chunks [some draws, n] that sum to `draws` rows.

        A weight is how often the example was drawn: a non-negative integer, as float64.
        """
        for multiplicities in self._multiplicities(max(1, _CELLS // self.n)):
            yield multiplicities[:, self._codes]

    def _check(self, n: int) -> None:
        if n != self.n:
            raise ValueError(f"{n} values for {self.n} examples of the bootstrap")

    def _resampled_means(self, scores: Floats) -> Floats:
        groups = len(self._sizes)
        if groups == self.n and not self._kept:
            distinct, counts = np.unique(scores, return_counts=True)
            if len(distinct) <= _FEW_VALUES:
                # Only how often each value was drawn matters, and that is multinomial: the
                # same distribution as drawing n examples, at a cost that n does not enter.
                generator = np.random.default_rng(self._seed)
                drawn = generator.multinomial(self.n, counts / self.n, size=self._draws)
                return np.asarray(drawn @ distinct / self.n, dtype=np.float64)
        sums = np.column_stack([np.bincount(self._codes, weights=scores), self._sizes])
        rows = max(1, _CELLS // groups)
        totals = np.concatenate([chunk @ sums for chunk in self._multiplicities(rows)])
        return np.asarray(totals[:, 0] / totals[:, 1], dtype=np.float64)

    @property
    def _kept(self) -> bool:
        return self._draws * len(self._sizes) <= _CELLS

    @cached_property
    def _all(self) -> Floats:
        return next(self._drawn(self._draws))

    def _multiplicities(self, rows: int) -> Iterator[Floats]:
        """How often each group was drawn, [at most `rows` draws, groups] at a time."""
        if not self._kept:
            yield from self._drawn(rows)
            return
        for first in range(0, self._draws, rows):
            yield self._all[first : first + rows]

    def _drawn(self, rows: int) -> Iterator[Floats]:
        # One stream, read in order: the chunking leaves no trace in what is drawn.
        generator = np.random.default_rng(self._seed)
        groups = len(self._sizes)
        for first in range(0, self._draws, rows):
            chunk = np.empty((min(rows, self._draws - first), groups))
            for row in chunk:
                row[:] = np.bincount(generator.integers(groups, size=groups), minlength=groups)
            yield chunk
