"""One recipe with one seed: a base model, or a tuned one, in; tuned weights and curves out."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs
from safetensors.torch import save_file
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.device import device, dtype
from stages.models.dropout import draw_cheaply
from stages.models.loading import EncoderModel
from stages.models.memory import keep_freed_memory
from stages.models.tuned import save_trained, save_tuned
from stages.phases import phase
from stages.tasks.examples import Examples
from stages.training import order, tracking
from stages.training.checkpoint import Checkpoint
from stages.training.compiled import compile_layers
from stages.training.loop import train
from stages.training.methods.method import Method
from stages.training.objective import Objective
from stages.training.recipe import Recipe
from stages.training.rms_norm import normalise_leanly
from stages.training.state import History, restore
from stages.training.subject import Subject


class Trained(NamedTuple):
    """The curves, the step that was kept, and what the methods noted."""

    history: History
    best_step: int
    notes: dict[str, Any]


def train_seed(
    recipe: Recipe, methods: Sequence[Method], seed: int, checkpoint: Checkpoint, out: Path
) -> Trained:
    """Train, write the tuned weights into `out`, and those of each snapshot into a folder of it."""
    gc.collect()  # the model of the seed before, which its compiled layers refer to
    keep_freed_memory()
    accelerator = accelerator_of(recipe.config)
    tracking.begin(accelerator, recipe.name, seed)
    order.seed_step(seed, 0, 0)  # a new head and an adapter are random
    subject = Subject(recipe, seed, accelerator)
    objective = compose(subject, methods)

    def after_step(step: int) -> None:
        for method in methods:
            method.after_step(subject, step)

    resumable = all(method.resumable for method in methods)
    with phase("train"):
        history, best = train(subject, objective, checkpoint, after_step, resumable)
    if accelerator.is_main_process:
        save_tuned(out, subject.saved(), subject.heads(), recipe.manifest)
        save_trained(out, subject.trained(best))
        for name, tensors in subject.left.items():
            save_file(tensors, out / name)
        for step in recipe.config.snapshots:
            restore(objective, checkpoint.snapshot(step).kept()["weights"])
            save_tuned(out / f"step-{step}", subject.saved(), subject.heads(), recipe.manifest)
    tracking.finish(accelerator)
    accelerator.free_memory()
    return Trained(history, best, subject.notes)


def accelerator_of(config: RunConfig) -> Accelerator:
    """On the device, and in the precision, that a run trains with."""
    where = device()
    mixed = "bf16" if dtype(config.precision, where) == torch.bfloat16 else "no"
    # A replayed task's head sits out the steps in which none of its rows are drawn.
    uneven = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=where.type == "cpu",
        mixed_precision=mixed,
        kwargs_handlers=[uneven],
        log_with=tracking.trackers() or None,
        project_dir=tracking.LOGS,
    )
    if accelerator.distributed_type == DistributedType.FSDP and mixed == "bf16":
        # accelerate's own has losses and sums of gradients in bf16, too.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    return accelerator


@phase("compose")
def compose(subject: Subject, methods: Sequence[Method]) -> Objective:
    """What is minimised: the targets, and what each method adds to them.

    All that refers to what the run starts from is taken before anything changes it.
    """

    def rewrite(examples: Examples) -> Examples:
        return reduce(lambda rows, method: method.rewrite(rows, subject.seed), methods, examples)

    refuse_in_parts(subject, methods)
    subject.learn_targets(rewrite)
    whole = any(method.in_batch for method in methods)
    subject.leave_out_padding()
    subject.targets = [
        replace(reduce(lambda rows, method: method.resample(rows), methods, stream), whole=whole)
        for stream in subject.targets
    ]
    subject.replayed = [stream for method in methods for stream in method.streams(subject)]
    terms = {method.name: method.term(subject) for method in methods}
    penalties = {method.name: method.penalty(subject) for method in methods}
    for method in methods:
        method.shape(subject)
    for method in methods:
        method.adapt(subject)
    if subject.config.gradient_checkpointing:
        checkpoint_layers(subject)
    normalise_leanly(subject.body)
    if subject.device.type == "cpu":
        draw_cheaply(subject.body)
    subject.leave_out_padding()
    add_to_tied_head(subject)
    if subject.config.compile:
        compile_layers(subject)
    return Objective(
        [*subject.targets, *subject.replayed],
        len(subject.targets),
        {name: term for name, term in terms.items() if term},
        {name: penalty for name, penalty in penalties.items() if penalty},
        subject.config.batch_size,
    )


def refuse_in_parts(subject: Subject, methods: Sequence[Method]) -> None:
    """Raises UserError under FSDP where a method needs weights whole, or the head of a task that is
    learned shares one with the embeddings, which are a part of their own."""
    if subject.accelerator.distributed_type != DistributedType.FSDP:
        return
    run = f"runs.{subject.recipe.name}"
    if asked := ", ".join(sorted(method.name for method in methods if method.needs_whole)):
        raise UserError(
            f"{run}.methods = {asked}: needs each weight whole, and FSDP keeps it in parts; replay "
            "would fit, or a launch without FSDP"
        )
    old = subject.recipe.old
    learned = [(run, examples) for examples in subject.recipe.train] + [
        (f"{run}.methods.{method.name}.tasks", old[task])
        for method in methods
        for task in method.sees()
    ]
    for key, examples in learned:
        if examples.task.kind == "masked-lm":
            raise UserError(
                f"{key}: {examples.task.name}, of kind masked-lm, cannot be learned under FSDP: "
                "launch without it"
            )


def add_to_tied_head(subject: Subject) -> None:
    """Where the vocabulary head has the embeddings' weight, add the gradient of the tokens that
    were read to the head's in its place, and make none of the whole vocabulary beside it.

    Not with several processes: DDP takes the gradient of such a weight for sparse, which with the
    head's part it is not.
    """
    if isinstance(subject.loaded, EncoderModel) or subject.accelerator.num_processes > 1:
        return
    head = subject.body.get_output_embeddings()
    for module in subject.body.modules():
        if isinstance(module, nn.Embedding) and module.weight is head.weight:
            module.sparse = True


def checkpoint_layers(subject: Subject) -> None:
    """Keep of each layer what goes into it, and compute the rest anew for its gradient (Chen et al.
    2016, arXiv 1604.06174). Raises UserError where the model cannot do so."""
    try:
        subject.body.activation_checkpointing_enable({"use_reentrant": False})
    except (AttributeError, ValueError):
        raise UserError(
            f"runs.{subject.recipe.name}.gradient_checkpointing = True: not known of a model of "
            f"type {subject.body.config.model_type!r}: leave it out"
        ) from None
