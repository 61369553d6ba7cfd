"""Does a run lose no more than may be lost? Pass, degraded, or too few examples to tell.

A non-inferiority test by intervals (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15,
657-680). A run passes where each of its tasks does: an intersection-union test, whose error is
that of one task however many there are (Berger 1982, Technometrics 24, 295-300).
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from stages.statistics.arrays import vectors
from stages.statistics.intervals import Interval
from stages.statistics.score_interval import interval_for

PASS, DEGRADED, UNDECIDED = "pass", "degraded", "undecided"
MOST = 100_000
"""Examples, of a task: more are not to be had."""


@dataclass(frozen=True)
class Limits:
    """What may be lost, and what must be gained.

    `margin` is a share of examples, `text_margin` bits per byte, `margins` either, by task;
    `minimum_gain` is in the target's unit, None where no gain is asked for. `confidence` is that of
    each claim, which looks at one end of an interval only.
    """

    margin: float
    text_margin: float
    minimum_gain: float | None
    confidence: float
    margins: Mapping[str, float] = field(default_factory=dict)

    def of_retain(self, task: str, of_text: bool) -> float:
        """The change, positive = better, above which a retain task passes."""
        return -self.margins.get(task, self.text_margin if of_text else self.margin)


@dataclass(frozen=True)
class Judged:
    """A task before the gate.

    `change` is positive where the run is better; what passes is surely above `limit`. `needed`: of
    an undecided task, about how many examples would decide, were all rates to stay as they are;
    None where MOST would not.
    """

    status: str
    change: Interval
    limit: float
    n: int
    needed: int | None = None


def judge(
    better: ArrayLike,
    groups: Iterable[Hashable],
    limit: float,
    confidence: float,
    of_text: bool,
    of_all: bool = False,
) -> Judged:
    """`better` [n]: by how much each example got better, as a share of 1, or bits per byte.

    Pass: the lower end of the change lies above the limit. Degraded: the upper end lies below.
    At the limit is neither: a model that is the base to the bit has not gained.
    """
    (values,) = vectors(better=better)
    change = interval_for(of_text, of_all)(values, groups, 2 * confidence - 1)
    if change.low > limit:
        return Judged(PASS, change, limit, len(values))
    if change.high < limit:
        return Judged(DEGRADED, change, limit, len(values))
    return Judged(UNDECIDED, change, limit, len(values), _needed(change, limit, len(values)))


def verdict(judged: Iterable[Judged]) -> str:
    """Of a run: degraded where one task is, else undecided where one is, else pass."""
    found = {one.status for one in judged}
    return next((status for status in (DEGRADED, UNDECIDED) if status in found), PASS)


def _needed(change: Interval, limit: float, n: int) -> int | None:
    """An end's distance from the value shrinks as 1 / sqrt(n)."""
    room = change.value - limit
    reach = change.value - change.low if room > 0 else change.high - change.value
    if abs(room) * (MOST / n) ** 0.5 <= reach:
        return None
    return max(n + 1, int(n * (reach / room) ** 2) + 1)
