"""One recipe with one seed: base model in, tuned weights and curves out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from stages.config.runs import RunConfig
from stages.models.device import device, dtype
from stages.models.encoder import Tokenizer, load_encoder, longest_input
from stages.models.tuned import save_tuned
from stages.tasks.examples import Examples
from stages.training import order
from stages.training.checkpoint import Checkpoint
from stages.training.encoder import EncoderTrainee, tokenise
from stages.training.loop import History, train


@dataclass(frozen=True)
class Recipe:
    """A run's settings, and what they are applied to."""

    name: str
    config: RunConfig
    manifest: dict[str, Any]
    base: Path
    train: Examples
    validation: Examples


def train_seed(recipe: Recipe, seed: int, checkpoint: Checkpoint, out: Path) -> tuple[History, int]:
    """Train, write the tuned weights into `out`; return the curves and the step that was kept."""
    config, where = recipe.config, device()
    mixed = "bf16" if dtype(config.precision, where) == torch.bfloat16 else "no"
    accelerator = Accelerator(cpu=where.type == "cpu", mixed_precision=mixed)
    encoder = load_encoder(recipe.base, recipe.manifest["pooling"]).to(where)
    tokenizer = Tokenizer(recipe.base, longest_input(encoder))
    rows, validation_rows = (
        tokenise(part, tokenizer) for part in (recipe.train, recipe.validation)
    )
    order.seed_step(seed, 0, 0)  # a new head and an adapter are random
    trainee = EncoderTrainee(encoder, len(recipe.train.task.labels), tokenizer.pad_id).to(where)
    if config.head == "probe":
        trainee.start_from_probe(rows)
    if config.methods.lora:
        from stages.training.methods import lora  # PEFT takes seconds to import

        encoder.body = lora.attach(encoder.body, config.methods.lora)
    history, best = train(
        trainee,
        rows,
        validation_rows,
        config,
        seed,
        accelerator,
        checkpoint,
        f"{recipe.name}, seed {seed}",
    )
    if accelerator.is_main_process:
        save_tuned(out, encoder, trainee.final_head(), recipe.manifest["source"])
    accelerator.free_memory()
    return history, best
