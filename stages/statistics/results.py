"""What a comparison finds: figures of a model, and changes of a run against its base."""

from dataclasses import dataclass

from stages.statistics.gate import Judged, Limits
from stages.statistics.intervals import Interval
from stages.statistics.measures import Measure, measure_for
from stages.statistics.noise import NoiseFloor
from stages.statistics.paired import Transitions, Undefined


@dataclass(frozen=True)
class Settings:
    confidence: float
    resamples: int
    seed: int
    limits: Limits


@dataclass(frozen=True)
class About:
    """What a records file says of a task."""

    kind: str
    role: str
    labels: tuple[str, ...]
    truncated: int
    metric: str | None = None
    """Of a task that says it itself: of kind lm-eval, or completion."""
    negative: str | None = None
    """Of a relation task, the label that stands for none."""

    @property
    def measure(self) -> Measure:
        return measure_for(self.kind, self.metric, self.negative)


@dataclass(frozen=True)
class TaskScores:
    """One model on one task: its test figures, seeds averaged example by example."""

    metrics: dict[str, Interval]
    n: int
    groups: int
    chance: float | None
    noisy: dict[str, Interval]
    """The measure under each condition of noise."""
    writing: dict[str, dict[str, Interval]]
    """Of generated texts, by slice and over all: topic accuracy, coherence, diversity."""


@dataclass(frozen=True)
class SliceChange:
    """A part of a task: the measure before and after, and the change with its interval."""

    n: int
    before: float
    after: float
    interval: Interval | None
    """None for fewer than two groups, which show no spread."""


@dataclass(frozen=True)
class Change:
    """A run against its base on one task: a gain where it is the target, else a drop.

    Positive is what its name says. `p` is of the sign-flip test on the seeds' average,
    `adjusted_p` Holm's over the run's retain tasks. `mcnemar` and `transitions`: one a seed,
    none for text and for scores between 0 and 1.
    """

    interval: Interval
    n: int
    p: float
    adjusted_p: float
    mcnemar: list[float]
    transitions: list[Transitions]
    seed_spread: float | None
    floor: float
    retained: float | Undefined
    slices: dict[str, SliceChange]

    def is_real(self, confidence: float) -> bool:
        return is_real(self.interval.value, self.adjusted_p, self.floor, confidence)


def is_real(change: float, adjusted_p: float, floor: float, confidence: float) -> bool:
    """Unlikely by chance, and larger than the noise floor."""
    return adjusted_p < 1 - confidence and abs(change) > floor


@dataclass(frozen=True)
class RunResult:
    """`noise_drop`: accuracy under noise, base minus run, mean over tasks and conditions.

    `gate`: the retain tasks, and the target where a gain is asked for.
    """

    scores: dict[str, TaskScores]
    changes: dict[str, Change]
    noise_drop: float | None
    gate: dict[str, Judged]


@dataclass(frozen=True)
class BaseResult:
    scores: dict[str, TaskScores]
    noise: dict[str, NoiseFloor]
