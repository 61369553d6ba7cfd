"""The training loop: stateless in its data order, resumable bit for bit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.training import order
from stages.training.checkpoint import Checkpoint
from stages.training.optimizer import make_optimizer, rate_factor, set_rate
from stages.training.trainee import Rows, Trainee, mean_loss

History = list[dict[str, float | int | None]]
Batches = Callable[[int], NDArray[np.intp]]
"""A step -> the rows of its global batch."""


@dataclass
class Progress:
    """Where training stands: what a checkpoint holds beside weights and optimizer."""

    step: int = 0
    history: History = field(default_factory=list)
    best_step: int = -1
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def trainable(trainee: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that training changes, by name, on the CPU."""
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in trainee.named_parameters()
        if parameter.requires_grad
    }


def _restore(trainee: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trainee.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def _train_subset(rows: Rows, batches: Batches, config: RunConfig) -> list[int]:
    """Rows that this run trains on, drawn from all of its steps alike.

    Rows it never reaches would show no over-fitting, and its first rows too much: AdamW's first
    steps are its boldest, and what they saw is remembered best.
    """
    steps = min(config.steps, -(-len(rows) // config.batch_size))
    seen = np.unique(np.concatenate([batches(step) for step in range(steps)]))
    return _draw(seen, config.validation_rows)


def _draw(rows: NDArray[np.integer], size: int) -> list[int]:
    # A stream of its own: the seeds of `order` must not choose the same rows again.
    stream = np.random.SeedSequence(0, spawn_key=(1,))
    chosen = np.random.default_rng(stream).permutation(rows)[:size]
    return [int(row) for row in chosen]


def train(
    trainee: Trainee,
    train_rows: Rows,
    validation_rows: Rows,
    config: RunConfig,
    seed: int,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    label: str,
) -> tuple[History, int]:
    """Train in place, leave the weights of the best validation loss, return curves and that step.

    A step's row holds the loss of its batch (training mode), the rate of the body and the norm
    of the gradient; every `validate_every` steps, and before the first and after the last, also
    the losses on a fixed subset of train and of validation (evaluation mode). Raises UserError
    where a loss or a gradient is not finite.
    """
    optimizer = make_optimizer(
        trainee, config.learning_rate, config.head_learning_rate, config.weight_decay
    )
    model, optimizer = accelerator.prepare(trainee, optimizer)
    progress = _resume(trainee, optimizer, checkpoint)
    batches = partial(order.batch, len(train_rows), config.batch_size, seed)
    looked_at = _draw(np.arange(len(validation_rows)), config.validation_rows)
    subsets = [
        ("train_loss", train_rows, _train_subset(train_rows, batches, config)),
        ("validation_loss", validation_rows, looked_at),
    ]
    if progress.step == 0:
        _validate(trainee, subsets, config, progress)
    model.train()
    bar = tqdm(
        total=config.steps,
        initial=progress.step,
        desc=label,
        unit="step",
        disable=None if accelerator.is_main_process else True,
    )
    while progress.step < config.steps:
        step = progress.step
        set_rate(optimizer, rate_factor(step, config.steps, config.warmup))
        order.seed_step(seed, step, accelerator.process_index)
        chosen = batches(step)
        share = chosen[accelerator.process_index :: accelerator.num_processes].tolist()
        # DDP averages over processes, whose shares may differ in weight.
        loss = model(train_rows, share).sum()
        loss = loss * accelerator.num_processes / train_rows.weight(chosen.tolist())
        _finite(float(loss.detach()), "loss", step + 1)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        _finite(float(norm), "norm of the gradient", step + 1)
        optimizer.step()
        optimizer.zero_grad()

        progress.step = step + 1
        progress.history.append(
            {
                "step": progress.step,
                "batch_loss": float(accelerator.reduce(loss.detach(), "mean")),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "gradient_norm": float(norm),
                "train_loss": None,
                "validation_loss": None,
            }
        )
        if progress.step % config.validate_every == 0 or progress.step == config.steps:
            _validate(trainee, subsets, config, progress)
        if progress.step % config.checkpoint_every == 0 and progress.step < config.steps:
            _save(trainee, optimizer, progress, accelerator, checkpoint)
        bar.update()
    bar.close()
    _restore(trainee, progress.best_weights)
    trainee.eval()
    return progress.history, progress.best_step


def _finite(value: float, what: str, step: int) -> None:
    if not math.isfinite(value):
        raise UserError(
            f"step {step}: the {what} is {value}; lower runs.<run>.learning_rate "
            "or set precision: fp32"
        )


def _validate(
    trainee: Trainee,
    subsets: Sequence[tuple[str, Rows, list[int]]],
    config: RunConfig,
    progress: Progress,
) -> None:
    found = {
        name: mean_loss(trainee, rows, indices, config.batch_size)
        for name, rows, indices in subsets
    }
    for name, loss in found.items():
        _finite(loss, name.replace("_", " "), progress.step)
    if progress.step == 0:
        empty = dict.fromkeys(("batch_loss", "learning_rate", "gradient_norm"))
        progress.history.append({"step": 0, **empty, **found})
    else:
        progress.history[-1].update(found)
    if found["validation_loss"] < progress.best_loss:
        progress.best_step, progress.best_loss = progress.step, found["validation_loss"]
        progress.best_weights = trainable(trainee)


def _save(
    trainee: Trainee,
    optimizer: Any,
    progress: Progress,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
) -> None:
    if accelerator.is_main_process:
        checkpoint.save(
            {
                "weights": trainable(trainee),
                "optimizer": optimizer.state_dict(),
                "progress": vars(progress),
            }
        )


def _resume(trainee: Trainee, optimizer: Any, checkpoint: Checkpoint) -> Progress:
    state = checkpoint.load()
    if state is None:
        return Progress()
    _restore(trainee, state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])
