"""How a run's training went: the step that was kept, and the losses there."""

from collections.abc import Iterator
from dataclasses import dataclass

from stages.report.measured import Told


@dataclass(frozen=True)
class Kept:
    seed: int
    steps: int
    step: int
    train_loss: float
    validation_loss: float
    last_validation_loss: float


def kept(training: Told) -> Iterator[Kept]:
    """One a seed."""
    for seed, curve in training.rows.groupby("seed"):
        looks = curve[curve["validation_loss"].notna()].set_index("step")
        best = training.about["best_step"][str(seed)]
        yield Kept(
            seed=int(str(seed)),
            steps=int(curve["step"].max()),
            step=best,
            train_loss=float(looks["train_loss"][best]),
            validation_loss=float(looks["validation_loss"][best]),
            last_validation_loss=float(looks["validation_loss"].iloc[-1]),
        )
