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


def noted(training: Told) -> Iterator[str]:
    """A sentence a seed and target on what it was trained on, where that is not the train split."""
    for seed, notes in training.about.get("notes", {}).items():
        for task, rows in notes.get("draw", {}).items():
            yield (
                f"seed {seed} is a draw of its own: {rows['train']} train rows of {task}, and "
                f"{rows['validation']} of validation to choose the step by"
            )
        for task, found in notes.get("self-training", {}).items():
            yield (
                f"seed {seed}: of {found['unlabelled']} unlabelled rows of {task} the teacher was "
                f"sure of {found['kept']}, and right about {found['right']} of them "
                f"({found['right'] / found['kept']:.1%})"
            )


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
