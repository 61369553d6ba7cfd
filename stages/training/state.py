"""Where training stands: kept, and taken up again."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from stages.config.runs import RunConfig
from stages.training.checkpoint import Checkpoint
from stages.training.objective import Objective
from stages.training.sharded import fill, part_again, whole

History = list[dict[str, float | int | None]]


@dataclass
class Progress:
    """Where training stands: what a checkpoint holds beside weights and optimizer."""

    step: int = 0
    history: History = field(default_factory=list)
    best_step: int = -1
    best_loss: float = math.inf
    resumed_best: int = -1
    """`best_step` of the last checkpoint."""

    @property
    def looks(self) -> list[float]:
        """The validation losses so far."""
        found = (row["validation_loss"] for row in self.history)
        return [loss for loss in found if loss is not None]


def trainable(objective: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name, on the CPU: to be saved, not kept."""
    part_again(objective)
    return {
        name: whole(parameter).cpu()
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad
    }


def restore(objective: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    part_again(objective)
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            fill(parameter, weights[name])


def keep_best(
    objective: Objective, progress: Progress, accelerator: Accelerator, checkpoint: Checkpoint
) -> None:
    """On the disk: in memory they would be as much again as is trained."""
    weights = trainable(objective)
    if accelerator.is_main_process:
        checkpoint.best(progress.best_step).save({"weights": weights})
        checkpoint.keep_best({progress.best_step, progress.resumed_best})


def save(
    objective: Objective,
    optimizer: Any,
    progress: Progress,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
) -> None:
    progress.resumed_best = progress.best_step
    if accelerator.is_main_process:
        checkpoint.save(
            {
                "weights": trainable(objective),
                "optimizer": optimizer.state_dict(),
                "progress": vars(progress),
            }
        )
        checkpoint.keep_best({progress.best_step})


def resume(
    objective: Objective, optimizer: Any, checkpoint: Checkpoint, config: RunConfig
) -> Progress:
    state = checkpoint.load()
    if state is None:
        return Progress()
    progress = Progress(**state["progress"])
    passed = [step for step in config.snapshots if step <= progress.step]
    beside = [checkpoint.best(progress.best_step), *map(checkpoint.snapshot, passed)]
    if not all(one.is_whole() for one in beside):
        return Progress()
    restore(objective, state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    return progress
