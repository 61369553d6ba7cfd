"""What a difference amounts to when nothing was changed: the noise floor of an A/A run."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from stages.statistics.arrays import matrix, vectors


@dataclass(frozen=True)
class NoiseFloor:
    """The net differences of an A/A run, in the unit of the scores."""

    repeats: int
    mean: float
    spread: float
    """Standard deviation between repeats (n - 1)."""
    flip_rate: float
    """Share of (repeat, example) whose score is not the clean one, whichever way it moved."""
    floor: float
    """No difference of this size or less is called real."""


def noise_floor(
    clean: ArrayLike, rescored: ArrayLike, confidence: float, *, refitted: bool = False
) -> NoiseFloor:
    """The noise floor of a base scored once, clean[n], and r times more, rescored[r, n].

    A repeat's net difference is mean(rescored) - mean(clean). The floor is the larger
    absolute end of the prediction interval for one further such difference,
    mean +- t(r - 1) spread sqrt(1 + 1/r) (Hahn and Meeker 1991, chapter 4): zero where all
    are zero. With r = 2 the t is 12.7 at 95 %: repeat more often where noise is expected.

    `refitted`: each repeat is a probe of its own, fitted on train rows drawn with replacement. It
    has seen 63 % of them, and is the worse for it; a base and a run that are held against each
    other have both seen all. That handicap is no noise, so the mean stays out of the floor.

    With r = 1 the spread is taken from within the repeat: examples move independently and as
    likely up as down, so their net difference has the standard deviation
    sqrt(sum of their squared differences) / n, and z stands for t.
    Raises ValueError for shapes that do not match.
    """
    (scores,) = vectors(clean=clean)
    repeats = matrix("rescored", rescored)
    r, n = repeats.shape
    if n != len(scores):
        raise ValueError(f"{len(scores)} clean scores, {n} rescored")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    # Differences before means: unchanged scores give exactly zero.
    moved = repeats - scores
    net = moved.mean(axis=1)
    mean, tail = float(net.mean()), (1 + confidence) / 2
    if r == 1:
        spread = float(np.sqrt((moved**2).sum()) / n)
        reach = float(norm.ppf(tail)) * spread
    else:
        spread = float(net.std(ddof=1))
        reach = float(t.ppf(tail, r - 1)) * spread * np.sqrt(1 + 1 / r)
    return NoiseFloor(
        repeats=r,
        mean=mean,
        spread=spread,
        flip_rate=float((moved != 0).mean()),
        floor=float(reach if refitted else abs(mean) + reach),
    )
