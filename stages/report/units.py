"""How a figure is written: accuracies in per cent, texts in bits per byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stages.statistics.intervals import Interval


class Ends(NamedTuple):
    """A figure with its interval, in the unit of scores.json."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Unit:
    """`step` is what a difference is counted in."""

    name: str
    step: str
    scale: float
    decimals: int

    def level(self, value: float) -> str:
        return f"{self._shown(value):.{self.decimals}f}"

    def change(self, value: float) -> str:
        return f"{self._shown(value):+.{self.decimals}f}"

    def level_between(self, ends: Ends | Interval) -> str:
        return f"{self.level(ends.value)} [{self.level(ends.low)}, {self.level(ends.high)}]"

    def change_between(self, ends: Ends | Interval) -> str:
        return f"{self.change(ends.value)} [{self.change(ends.low)}, {self.change(ends.high)}]"

    def _shown(self, value: float) -> float:
        return round(self.scale * value, self.decimals) + 0.0  # no negative zero


CORRECT = Unit("% correct", "points", 100, 1)
HIT = Unit("% hit@1", "points", 100, 1)
BITS = Unit("bits/byte", "bits/byte", 1, 3)

_MEASURED_IN = {
    "accuracy": CORRECT,
    "hit_at_1": HIT,
    "bits_per_byte": BITS,
    "token_f1": Unit("% token F1", "points", 100, 1),
    "exact_match": Unit("% exact match", "points", 100, 1),
    "rouge_l": Unit("ROUGE-L, x 100", "points", 100, 1),
    "sentence_chrf": Unit("mean sentence chrF", "points", 100, 1),
    "sentence_bleu": Unit("mean sentence BLEU", "points", 100, 1),
    "micro_f1": Unit("% micro F1", "points", 100, 1),
    "spearman": Unit("Spearman, x 100", "points", 100, 1),
    "entity_f1": Unit("% entity F1", "points", 100, 1),
}

WRITING = {
    "topic_accuracy": Unit("topic accuracy, %", "points", 100, 1),
    "coherence": Unit("coherence", "", 1, 3),
    "distinct_2": Unit("distinct-2", "", 1, 3),
    "self_bleu": Unit("self-BLEU", "", 1, 3),
}
"""By the figures of stages/statistics/writing.py."""


def measure_of(found: Mapping[str, Any]) -> str:
    """The measure of a task, from its part of scores.json, where it stands first."""
    return next(iter(found))


def unit_of(measure: str) -> Unit:
    """By the measures of stages/statistics/measures.py; a metric of lm-eval names its own."""
    return _MEASURED_IN.get(measure) or Unit(f"% {measure}", "points", 100, 1)


def ends_of(found: Mapping[str, Any]) -> Ends:
    return Ends(found["value"], found["low"], found["high"])
