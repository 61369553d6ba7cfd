"""Are the answers right under other names?"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from stages.statistics.arrays import Integers


@dataclass(frozen=True)
class Relabelled:
    """Accuracy as it is, and under the best one-to-one renaming of the answers; `low`: the lower
    end of the gain by it."""

    accuracy: float
    renamed: float
    low: float
    moved: tuple[tuple[int, int], ...]
    """(answer, what it stands for), where they differ."""


def relabel(targets: Integers, answers: Integers, k: int, confidence: float) -> Relabelled:
    """The renaming that most answers fit (Kuhn 1955), chosen on one half of the examples and
    judged on the other, and the other way round: chance renames nothing.

    targets[n] and answers[n] are classes 0 .. k-1.
    """
    even = np.arange(len(targets)) % 2 == 0
    right = np.zeros(len(targets))
    for chosen in (even, ~even):
        names = _names(targets[~chosen], answers[~chosen], k)
        right[chosen] = names[answers[chosen]] == targets[chosen]
    gained = right - (targets == answers)
    reach = float(norm.ppf(confidence)) * gained.std(ddof=1) / np.sqrt(len(gained))
    names = _names(targets, answers, k)
    return Relabelled(
        accuracy=float((targets == answers).mean()),
        renamed=float(right.mean()),
        low=float(gained.mean() - reach),
        moved=tuple((int(one), int(name)) for one, name in enumerate(names) if one != name),
    )


def _names(targets: Integers, answers: Integers, k: int) -> Integers:
    """What each answer stands for. A tie keeps the name."""
    counts = np.bincount(answers * k + targets, minlength=k * k).reshape(k, k)
    _, names = linear_sum_assignment(counts + 0.5 * np.eye(k), maximize=True)
    return names.astype(np.int64)
