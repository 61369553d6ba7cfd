"""The training loop: stateless in its data order, resumable bit for bit."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.fsdp import register_fsdp_forward_method

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.finite import first_wrong, first_wrong_output
from stages.phases import phase
from stages.progress import bar
from stages.training import order, tracking
from stages.training.checkpoint import Checkpoint
from stages.training.clipping import clip
from stages.training.compiled import as_written
from stages.training.objective import Objective
from stages.training.optimizer import make_optimizer, set_rate
from stages.training.schedule import is_over, rate_factor
from stages.training.sharded import is_sharded, make_whole, whole
from stages.training.state import History, Progress, keep_best, restore, resume, save, trainable
from stages.training.stream import Stream
from stages.training.subject import Subject
from stages.training.trainee import Rows, mean_loss

Look = tuple[Stream, Rows, list[int]]
"""A stream, rows to look at with its trainee, and which of them."""


def _train_subset(stream: Stream, config: RunConfig, seed: int) -> list[int]:
    """Rows that this run trains on, drawn from all of its steps alike.

    Rows it never reaches would show no over-fitting, and its first rows too much: AdamW's first
    steps are its boldest, and what they saw is remembered best.
    """
    steps = min(config.steps, math.ceil(len(stream.rows) / config.batch_size / stream.share))
    seen = stream.seen(config.batch_size, seed, steps)
    return _draw(np.asarray(seen), config.validation_rows)


def _draw(rows: NDArray[np.integer], size: int) -> list[int]:
    # A stream of its own: the seeds of `order` must not choose the same rows again.
    stream = np.random.SeedSequence(0, spawn_key=(1,))
    chosen = np.random.default_rng(stream).permutation(rows)[:size]
    return [int(row) for row in chosen]


def train(
    subject: Subject,
    objective: Objective,
    checkpoint: Checkpoint,
    after_step: Callable[[int], None],
    resumable: bool,
) -> tuple[History, int]:
    """Train in place, leave the weights of the best validation loss, return curves and that step.

    A step's row holds the objective (training mode) and its parts, the rate of the body and the
    norm of the gradient; every `validate_every` steps, and before the first and after the last,
    also the losses on a fixed subset of train and of validation (evaluation mode), means over
    targets. The weights after each step of `snapshots` are left beside the checkpoint. Where not
    `resumable`, and under FSDP, training begins anew. Raises UserError where a loss or a gradient
    is not finite.
    """
    config, seed, accelerator = subject.config, subject.seed, subject.accelerator
    adamw = make_optimizer(
        objective,
        config.learning_rate,
        config.head_learning_rate,
        config.weight_decay,
        config.layer_decay,
    )
    model, optimizer = accelerator.prepare(objective, adamw)
    register_fsdp_forward_method(objective, "losses")
    resumable = resumable and not is_sharded(objective)  # the optimizer's state is in parts too
    progress = resume(objective, optimizer, checkpoint, config) if resumable else Progress()
    looks = _looks(subject)
    if progress.step == 0:
        _validate(subject, objective, looks, progress, checkpoint)
        tracking.log(accelerator, progress.history[-1])
    model.train()
    shown = bar(
        total=config.steps,
        initial=progress.step,
        desc=f"{subject.recipe.name}, seed {seed}",
        unit="step",
    )
    while progress.step < config.steps and not is_over(progress.looks, config.early_stopping):
        step = progress.step
        factor = rate_factor(config, step, progress.looks)
        set_rate(optimizer, factor)
        means = _gradient(model, subject, step)
        if is_sharded(objective):
            norm = whole(accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm))
        else:
            norm = clip(model.parameters(), adamw, config.max_grad_norm)
        if not math.isfinite(norm):
            wrong = _wrong_gradient(objective, optimizer, subject, step)
            _finite(float(norm), "norm of the gradient", step + 1, wrong)
        optimizer.step()
        after_step(step)
        optimizer.zero_grad()

        progress.step = step + 1
        apart = means if len(means) > 1 else {}
        progress.history.append(
            {
                "step": progress.step,
                "batch_loss": sum(means.values()),
                "learning_rate": config.learning_rate * factor,
                "gradient_norm": float(norm),
                "train_loss": None,
                "validation_loss": None,
                **{f"batch_loss:{name}": mean for name, mean in apart.items()},
            }
        )
        last = progress.step == config.steps
        if progress.step % config.validate_every == 0 or last:
            _validate(subject, objective, looks, progress, checkpoint)
        tracking.log(accelerator, progress.history[-1])
        # Before the checkpoint, which does not come back to this step.
        if progress.step in config.snapshots:
            kept = {"weights": trainable(objective)}
            if accelerator.is_main_process:
                checkpoint.snapshot(progress.step).save(kept)
        if progress.step % config.checkpoint_every == 0 and not last and resumable:
            save(objective, optimizer, progress, accelerator, checkpoint)
        shown.update()
    shown.close()
    accelerator.wait_for_everyone()
    restore(objective, checkpoint.best(progress.best_step).kept()["weights"])
    if is_sharded(objective):
        make_whole(objective)
    objective.eval()
    return progress.history, progress.best_step


def _looks(subject: Subject) -> dict[str, list[Look]]:
    """What is looked at: for each curve, of each target, which rows."""
    config, seed = subject.config, subject.seed
    return {
        "train_loss": [
            (stream, stream.rows, _train_subset(stream, config, seed)) for stream in subject.targets
        ],
        "validation_loss": [
            (stream, rows, _draw(np.arange(len(rows)), config.validation_rows))
            for stream, rows in zip(subject.targets, subject.validation, strict=True)
        ],
    }


def _finite(value: float, what: str, step: int, tensor: str | None = None) -> None:
    if not math.isfinite(value):
        where = f", from {tensor}" if tensor else ""
        raise UserError(
            f"step {step}: the {what} is {value}{where}; lower runs.<run>.learning_rate "
            "or set precision: fp32"
        )


def _gradient(model: torch.nn.Module, subject: Subject, step: int) -> dict[str, float]:
    """Take the gradient of a step, in `accumulate` turns of each process, and return the parts of
    its loss. Raises UserError, in all processes alike, where one is not finite."""
    accelerator, turns = subject.accelerator, subject.config.accumulate
    shares = accelerator.num_processes * turns
    means: dict[str, float] = {}
    for turn in range(turns):
        share = accelerator.process_index * turns + turn
        order.seed_step(subject.seed, step, share)
        last = turn + 1 == turns
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():  # accelerate leaves it out under FSDP
                parts: dict[str, Tensor] = model(subject.seed, step, share, shares)
            values = torch.stack([part.detach().float() for part in parts.values()])
            found = dict(zip(parts, accelerator.reduce(values, "mean"), strict=True))
            _finite(float(sum(found.values())), "loss", step + 1, first_wrong(found.items()))
            accelerator.backward(sum(parts.values()) / turns)
        for name, mean in found.items():
            means[name] = means.get(name, 0.0) + float(mean) / turns
    return means


def _wrong_gradient(
    objective: Objective, optimizer: Any, subject: Subject, step: int
) -> str | None:
    """The first parameter whose gradient in this step is not finite.

    The step is taken again: clipping has multiplied every gradient by what is not finite.
    """
    optimizer.zero_grad()
    _gradient(objective, subject, step)
    named = objective.named_parameters()
    return first_wrong((name, one.grad) for name, one in named if one.grad is not None)


@phase("validate")
def _validate(
    subject: Subject,
    objective: Objective,
    looks: dict[str, list[Look]],
    progress: Progress,
    checkpoint: Checkpoint,
) -> None:
    found: dict[str, float] = {}
    for curve, of_targets in looks.items():
        found[curve] = _look(subject, objective, of_targets)
        if not math.isfinite(found[curve]):
            origin = first_wrong_output(objective, partial(_look, subject, objective, of_targets))
            _finite(found[curve], curve.replace("_", " "), progress.step, origin)
    if progress.step == 0:
        empty = dict.fromkeys(("batch_loss", "learning_rate", "gradient_norm"))
        progress.history.append({"step": 0, **empty, **found})
    else:
        progress.history[-1].update(found)
    if found["validation_loss"] < progress.best_loss:
        progress.best_step, progress.best_loss = progress.step, found["validation_loss"]
        keep_best(objective, progress, subject.accelerator, checkpoint)


def _look(subject: Subject, objective: Objective, of_targets: list[Look]) -> float:
    """The mean over targets."""
    size, deal = subject.config.batch_size, not is_sharded(objective)
    # What a turn of a step reads at once fits; where rows are each other's negatives it is a step.
    turn = -(-size // (subject.accelerator.num_processes * subject.config.accumulate))
    with subject.accelerator.autocast(), as_written(subject.config.compile):
        losses = [
            mean_loss(
                stream.trainee,
                rows,
                chosen,
                size if stream.trainee.in_batch else turn,
                objective.losses,
                deal=deal,
            )
            for stream, rows, chosen in of_targets
        ]
    return float(np.mean(losses))
