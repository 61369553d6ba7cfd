"""One recipe with one seed: base model in, tuned weights and curves out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from stages.config.runs import RunConfig
from stages.models.device import device, dtype
from stages.models.loading import EncoderModel, load
from stages.models.memory import keep_freed_memory
from stages.models.probe import Probe
from stages.models.tuned import save_tuned
from stages.tasks.examples import Examples
from stages.training import causal, encoder, order
from stages.training.checkpoint import Checkpoint
from stages.training.loop import History, train
from stages.training.trainee import Rows, Trainee


@dataclass(frozen=True)
class Recipe:
    """A run's settings, and what they are applied to."""

    name: str
    config: RunConfig
    manifest: dict[str, Any]
    base: Path
    train: Examples
    validation: Examples


@dataclass
class Subject:
    """A model about to be trained. `body` is what an adapter is put around, and what is saved."""

    trainee: Trainee
    train: Rows
    validation: Rows

    @property
    def body(self) -> Any:
        trainee = self.trainee
        return (
            trainee.encoder.body if isinstance(trainee, encoder.EncoderTrainee) else trainee.model
        )

    @body.setter
    def body(self, body: Any) -> None:
        if isinstance(self.trainee, encoder.EncoderTrainee):
            self.trainee.encoder.body = body
        else:
            self.trainee.model = body

    @property
    def head(self) -> Probe | None:
        trainee = self.trainee
        return trainee.final_head() if isinstance(trainee, encoder.EncoderTrainee) else None


def _subject(recipe: Recipe, where: torch.device) -> Subject:
    loaded = load(recipe.manifest, recipe.base)
    parts = (recipe.train, recipe.validation)
    if isinstance(loaded, EncoderModel):
        rows = [encoder.tokenise(part, loaded.tokenizer) for part in parts]
        classes, pad_id = len(recipe.train.task.labels), loaded.tokenizer.pad_id
        trainee = encoder.EncoderTrainee(loaded.encoder, classes, pad_id).to(where)
        if recipe.config.head == "probe":
            trainee.start_from_probe(rows[0])
        return Subject(trainee, *rows)
    texts = [causal.tokenise(part, loaded.tokenizer) for part in parts]
    return Subject(causal.CausalTrainee(loaded.model, loaded.tokenizer.pad_id).to(where), *texts)


def train_seed(recipe: Recipe, seed: int, checkpoint: Checkpoint, out: Path) -> tuple[History, int]:
    """Train, write the tuned weights into `out`; return the curves and the step that was kept."""
    keep_freed_memory()
    config, where = recipe.config, device()
    mixed = "bf16" if dtype(config.precision, where) == torch.bfloat16 else "no"
    accelerator = Accelerator(cpu=where.type == "cpu", mixed_precision=mixed)
    order.seed_step(seed, 0, 0)  # a new head and an adapter are random
    subject = _subject(recipe, where)
    if config.methods.lora:
        from stages.training.methods import lora  # PEFT takes seconds to import

        subject.body = lora.attach(subject.body, config.methods.lora)
    history, best = train(
        subject.trainee,
        subject.train,
        subject.validation,
        config,
        seed,
        accelerator,
        checkpoint,
        f"{recipe.name}, seed {seed}",
    )
    if accelerator.is_main_process:
        save_tuned(out, subject.body, subject.head, recipe.manifest["source"])
    accelerator.free_memory()
    return history, best
