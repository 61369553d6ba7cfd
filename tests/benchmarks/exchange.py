"""What passes between the processes."""

from dataclasses import dataclass
from pathlib import Path

Answer = tuple[float, bool] | float | str
"""As lm-eval has it: a choice's log-likelihood and whether it is the greedy answer, the
log-likelihood of a whole text, or a text that was written."""


@dataclass(frozen=True)
class Settings:
    """`ours`, or else lm-eval; `tasks`: a folder of YAML; `precision`: fp64, fp32, bf16 or auto."""

    ours: bool
    model: Path
    tasks: Path
    precision: str
    threads: int


@dataclass(frozen=True)
class About:
    """A side that is ready."""

    dtype: str
    loaded: int  # bytes resident with the model in memory
    peak_resets: bool  # a peak is a task's own, not the process's
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """Of one task. `answers` [examples][requests]."""

    seconds: float
    tokens: int  # read by the body, padding included
    states: int  # that the vocabulary head was applied to
    operations: int  # floating-point, of the products with the model's matrices
    peak: int  # bytes resident
    metrics: dict[str, float]
    answers: list[list[Answer]]


@dataclass(frozen=True)
class Profile:
    """Of one task: seconds that each operator of torch took itself, on the thread that calls."""

    operators: dict[str, float]
    operations: int  # as in Outcome
