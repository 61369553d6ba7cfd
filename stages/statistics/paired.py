"""One model before and after, on the same examples: what was lost, and is it chance."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from stages.statistics.arrays import Floats, group_codes, vectors
from stages.statistics.intervals import Interval

Name = TypeVar("Name", bound=Hashable)
# Up to so many groups all 2^12 flips are looked at, and the test is exact.
_ENUMERATED = 12
# The most flips held at once.
_CELLS = 1 << 22
# Sums that differ by less than this share of their size differ by rounding only.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Undefined:
    """No value, and why: a part of a sentence that a report can show."""

    reason: str


@dataclass(frozen=True)
class Transitions:
    """Correctness before and after, over n examples, in shares of n.

    forgetting - backward_transfer = accuracy before - accuracy after. The adjusted two are
    cut off at 0, so they need not keep that balance; None where guessing is not defined.
    """

    n: int
    lost: int
    """Examples right before and wrong after (1 -> 0)."""
    won: int
    """Examples wrong before and right after (0 -> 1)."""
    adjusted_forgetting: float | None
    adjusted_backward_transfer: float | None

    @property
    def forgetting(self) -> float:
        """F, the share of 1 -> 0."""
        return self.lost / self.n

    @property
    def backward_transfer(self) -> float:
        """B, the share of 0 -> 1."""
        return self.won / self.n


def _correctness(before: ArrayLike, after: ArrayLike) -> tuple[Floats, Floats]:
    first, second = vectors(before=before, after=after)
    others = int(((first != 0) & (first != 1) | (second != 0) & (second != 1)).sum())
    if others:
        raise ValueError(f"{others} of {len(first)} examples have a score other than 0 and 1")
    return first, second


def transitions(
    before: ArrayLike, after: ArrayLike, options: ArrayLike | None = None
) -> Transitions:
    """Count the transitions between before[n] and after[n], each 0 or 1.

    F, B and their chance-adjusted variants are those of Harmon, Hochlehnert, Bethge and
    Prabhu, "Mapping Post-Training Forgetting in Language Models at Scale"
    (arXiv 2510.17776): F* = max(0, F - (1 - a0)(1 - a1) / (k - 1)), and B* alike, as in
    the authors' src/analyze/create_csv.py. A model knows an item or guesses among k, so that
    the share it does not know is u = (1 - a) k / (k - 1); with knowing and guessing
    independent before and after, u0 u1 (1/k)(k - 1)/k of the items go 1 -> 0 by guessing.

    `options` [n] is the k of each example (1 / chance), above 1; None where chance is not a
    guess among options (a majority class), and then nothing is adjusted. Theirs has one k a
    task; for several, the same model with knowing independent of k puts
    mean((1/k)(1 - 1/k)) / mean(1 - 1/k)^2 in place of 1 / (k - 1).

    What is left is known before and seen to be wrong after, (k - 1)/k of what was forgotten.
    Deterministic scoring repeats its guesses, and F* is then too low; items hard both before
    and after are more than u0 u1, and it is then too high. Report F beside it.
    Raises ValueError for other scores, for k <= 1, and for lengths that do not match.
    """
    first, second = _correctness(before, after)
    n = len(first)
    lost = int(((first == 1) & (second == 0)).sum())
    won = int(((first == 0) & (second == 1)).sum())
    if options is None:
        return Transitions(n, lost, won, None, None)
    _, k = vectors(before=first, options=options)
    if (k <= 1).any():
        raise ValueError(f"{int((k <= 1).sum())} of {n} examples have 1 option or fewer")
    chance = 1 / k
    by_guessing = (chance * (1 - chance)).mean() / (1 - chance).mean() ** 2
    expected = float((1 - first.mean()) * (1 - second.mean()) * by_guessing)
    return Transitions(n, lost, won, max(0.0, lost / n - expected), max(0.0, won / n - expected))


def _sign_test(positive: int, trials: int) -> float:
    """Exact two-sided p of `positive` heads in `trials` fair coins, twice the smaller tail."""
    return min(1.0, 2 * float(binom.cdf(min(positive, trials - positive), trials, 0.5)))


def mcnemar(before: ArrayLike, after: ArrayLike) -> float:
    """Exact two-sided p of McNemar's test (1947, Psychometrika 12, 153-157).

    before[n] and after[n] are 0 or 1, the examples independent. Under the null a discordant
    example is as likely lost as won; 1 where there is none. In (0, 1], down to underflow.
    """
    counts = transitions(before, after)
    return _sign_test(counts.lost, counts.lost + counts.won)


def sign_flip(differences: ArrayLike, groups: Iterable[Hashable], draws: int, seed: int) -> float:
    """Two-sided sign-flip permutation test that the mean of differences[n] is zero.

    Each group [n labels] is flipped as a whole: under the null, before and after could be
    exchanged in it. The p is exact where the sums of all groups that have one are of the same
    size (binomial; with one example a group and scores of 0 and 1 it is `mcnemar`) and up to
    12 such groups (all flips). Otherwise it is (1 + hits) / (1 + draws), which never falls
    below what `draws` can show (Phipson and Smyth 2010, SAGMB 9, article 39).

    In (0, 1]; 1 where every difference is zero. Deterministic in `seed`.
    Raises ValueError for lengths that do not match and for fewer than 1 draw.
    """
    (values,) = vectors(differences=differences)
    codes = group_codes(groups)
    if len(codes) != len(values):
        raise ValueError(f"{len(values)} differences, {len(codes)} groups")
    if draws < 1:
        raise ValueError(f"{draws} draws: needs at least 1")
    # Relative to the group's own size, so that 0.1 + 0.2 - 0.3 counts as nothing.
    sums: Floats = np.bincount(codes, weights=values).astype(np.float64)
    sums = sums[np.abs(sums) > _ROUNDING * np.bincount(codes, weights=np.abs(values))]
    if len(sums) == 0:
        return 1.0
    sizes = np.abs(sums)
    if np.ptp(sizes) <= _ROUNDING * sizes.max():
        return _sign_test(int((sums > 0).sum()), len(sums))
    extreme = abs(sums.sum()) - _ROUNDING * sizes.sum()
    if len(sums) <= _ENUMERATED:
        flips = np.indices((2,) * len(sums)).reshape(len(sums), -1).T
        return float((np.abs((1 - 2 * flips) @ sums) >= extreme).mean())
    hits = int((np.abs(_flipped_sums(sums, draws, seed)) >= extreme).sum())
    return (1 + hits) / (1 + draws)


def _flipped_sums(sums: Floats, draws: int, seed: int) -> Floats:
    """The total of `sums` [groups] under `draws` random choices of signs, [draws]."""
    generator = np.random.default_rng(seed)
    # Whole 64-bit words a draw: the chunking leaves no trace in what is drawn.
    words = -(-len(sums) // 64)
    rows = max(1, _CELLS // len(sums))
    totals = []
    for first in range(0, draws, rows):
        size = (min(rows, draws - first), words)
        bits = generator.integers(2**64, size=size, dtype=np.uint64).view(np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(sums))
        totals.append(2 * (kept @ sums) - sums.sum())
    return np.concatenate(totals)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's step-down adjustment of the p-values of a family (1979, Scand. J. Stat. 6, 65-70).

    An adjusted p below alpha is a claim; the chance of any false claim in the family is at
    most alpha. Raises ValueError for a p outside [0, 1].
    """
    if not p_values:
        return {}
    (raw,) = vectors(p_values=list(p_values.values()))
    if (raw < 0).any() or (raw > 1).any():
        raise ValueError(f"{int(((raw < 0) | (raw > 1)).sum())} of {len(raw)} p lie outside [0, 1]")
    # Not statsmodels' multipletests: it collects garbage on every call, 60 ms each.
    order = np.argsort(raw)
    adjusted = np.empty(len(raw))
    adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    return {name: min(1.0, float(p)) for name, p in zip(p_values, adjusted, strict=True)}


def retained(before: Interval, after: float, chance: float) -> float | Undefined:
    """(a1 - c) / (a0 - c): the share of the accuracy above chance that is left.

    Above 1 where the task improved, below 0 where it fell under chance. Undefined unless the
    lower end of the interval of a0 is above chance: else it divides by noise.
    """
    if before.low > chance:
        return (after - chance) / (before.value - chance)
    return Undefined(
        f"accuracy before, {before.value:.3f} ({before.low:.3f} to {before.high:.3f}), "
        f"is not clearly above chance, {chance:.3f}"
    )
