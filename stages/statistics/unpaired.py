"""Two independent samples: how far their means are apart."""

import math
from collections.abc import Hashable, Iterable

from numpy.typing import ArrayLike
from scipy.stats import t

from stages.statistics.intervals import Interval
from stages.statistics.score_interval import checked, variance_of_mean


def difference(
    first: ArrayLike,
    first_groups: Iterable[Hashable],
    second: ArrayLike,
    second_groups: Iterable[Hashable],
    confidence: float,
) -> Interval:
    """Welch's interval (1947, Biometrika 34, 28-35) of mean(first[n]) - mean(second[m]).

    Over groups, with the degrees of freedom of Satterthwaite. Raises ValueError for fewer than 2
    groups in either.
    """
    sides = [checked(first, first_groups), checked(second, second_groups)]
    value = float(sides[0][0].mean() - sides[1][0].mean())
    variances = [variance_of_mean(*side) for side in sides]
    total = sum(variances)
    if total == 0:
        return Interval(value, value, value)
    freedom = total**2 / sum(
        variance**2 / int(codes.max())
        for variance, (_, codes) in zip(variances, sides, strict=True)
    )
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(total)
    return Interval(value, value - reach, value + reach)
