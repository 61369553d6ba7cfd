"""Is one attempt at a run better than another? From its parts of gate.json and scores.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from stages.statistics.gate import DEGRADED, PASS, UNDECIDED

WORST_FIRST = (DEGRADED, UNDECIDED, PASS)


@dataclass(frozen=True)
class Attempt:
    """`gain` with the lower end of its interval; `burden`: the drops of the retain tasks, each in
    units of its margin, summed; what got better counts nothing."""

    verdict: str
    gain: float
    least_gain: float
    burden: float

    @classmethod
    def of(cls, gate: Mapping[str, Any], scores: Mapping[str, Any]) -> Self:
        """`gate` and `scores`: a run's parts of those files. Of several targets the mean."""
        gains = [found["gain"] for found in scores.values() if "gain" in found]
        retain = [one for one in gate["tasks"].values() if one["role"] == "retain"]
        return cls(
            verdict=gate["verdict"],
            gain=sum(one["value"] for one in gains) / len(gains),
            least_gain=sum(one["low"] for one in gains) / len(gains),
            burden=sum(max(0.0, one["change"] / one["limit"]) for one in retain),
        )

    def is_better_than(self, other: "Attempt", first: "Attempt") -> bool:
        """By its verdict, and of one verdict loses less; gains as much as `first`, where all tries
        began, within its interval."""
        if self.gain < first.least_gain:
            return False
        mine, others = (WORST_FIRST.index(one.verdict) for one in (self, other))
        return mine > others or (mine == others and self.burden < other.burden)
