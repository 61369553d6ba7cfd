"""A training in a process of its own: by our loop, or by transformers' Trainer."""

import gc
import io
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, SequentialSampler

from stages.config.runs import RunConfig
from stages.models import device
from stages.models.causal import decoder
from stages.models.loading import CausalModel
from stages.models.memory import keep_freed_memory
from stages.models.texts import pad
from stages.storage import read_json
from stages.tasks.examples import Examples
from stages.training import order
from stages.training.causal import CausalRows
from stages.training.encoder import EncoderRows, EncoderTrainee
from stages.training.loop import train
from stages.training.optimizer import make_optimizer
from stages.training.recipe import Recipe, read_recipe
from stages.training.run import accelerator_of, compose
from stages.training.schedule import rate_factor
from stages.training.stream import Stream
from stages.training.subject import Subject

from .host import matrix_rate, peak_memory, reset_peak
from .scratch import scratch
from .work import Work

IGNORED = -100


@dataclass(frozen=True)
class Trained:
    """All but the first steps, of which the very first also pays for what is set up."""

    seconds: float
    first: float  # seconds, of those steps
    labelled: int  # tokens, or rows, that the loss was taken on
    tokens: int  # read by the body, padding included
    operations: int  # floating-point, of the products with the model's matrices, both ways
    matrix_rate: float  # operations a second that this process got of a large product
    loaded: int  # bytes resident before the first step
    peak: int
    losses: list[float]  # of each step, the first ones included


class Watch:
    """Looks at clock and counters after the `first` steps and after the last."""

    def __init__(self, subject: Subject, first: int = 1) -> None:
        (self._stream,) = subject.targets
        self._config, self._first = subject.config, first
        self._work = Work(*_body_and_head(subject, self._stream))
        self._rate = matrix_rate(device.dtype(self._config.precision, subject.device))
        gc.collect()
        reset_peak()
        self._loaded = peak_memory()
        self._ready = time.perf_counter()

    def after_step(self, step: int) -> None:
        if step + 1 == self._first:
            self._work.reset()
            self._began = time.perf_counter()
        if step + 1 == self._config.steps:
            self._seconds = time.perf_counter() - self._began
            self._peak, self._done = peak_memory(), (self._work.tokens, self._work.operations)

    def trained(self, losses: Sequence[float]) -> Trained:
        config, stream = self._config, self._stream
        steps = range(self._first, config.steps)
        labelled = sum(
            stream.rows.weight(stream.batch(config.batch_size, 0, step)) for step in steps
        )
        tokens, forward = self._done
        return Trained(
            seconds=self._seconds,
            first=self._began - self._ready,
            labelled=labelled,
            tokens=tokens,
            operations=3 * forward,
            matrix_rate=self._rate,
            loaded=self._loaded,
            peak=self._peak,
            losses=list(losses),
        )


def ours(
    recipe: Recipe,
    learned: float | None = None,
    compiled: bool = False,
    first: int = 1,
    also: Callable[[int], None] = lambda step: None,
) -> Trained:
    """By the pipeline's own loop. `learned`: the last share of each row that is; None: as the task
    has it. `compiled`: as `compile` under a run has it. `first`: steps that are left out. `also`:
    called after each step."""
    keep_freed_memory()
    config = recipe.config.model_copy(update={"compile": compiled})
    subject = _subject(replace(recipe, config=config), learned)
    objective = compose(subject, ())
    watch = Watch(subject, first)

    def after_step(step: int) -> None:
        watch.after_step(step)
        also(step)

    with scratch() as (checkpoint, _):
        history, _ = train(subject, objective, checkpoint, after_step, False)
    return watch.trained([float(row["batch_loss"] or 0) for row in history[1:]])


def profiled(recipe: Recipe, learned: float | None = None) -> tuple[Trained, dict[str, float]]:
    """Ours, and of its last step, which takes longer while it is watched, seconds by operator of
    torch.

    What the watch writes down lies between the tensors, so that more of them are new memory, which
    takes long to write to. Hence one step, and memory that was written to before.
    """
    watched = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    last = recipe.config.steps - 1

    def after_step(step: int) -> None:
        if step + 1 == last:
            torch.ones(2**30, dtype=torch.uint8)
            watched.start()
        if step == last:
            watched.stop()

    told = ours(recipe, learned, first=last, also=after_step)
    return told, {one.key: one.self_cpu_time_total / 1e6 for one in watched.key_averages()}


def trainer(recipe: Recipe, learned: float | None = None) -> Trained:
    """By Trainer: the same rows in the same order, optimizer, schedule and dropout."""
    subject = _subject(recipe, learned)
    subject.learn_targets(lambda examples: examples)
    (stream,), config = subject.targets, subject.config
    model: Any = (
        subject.body if isinstance(subject.loaded, CausalModel) else Classifier(stream.trainee)
    )
    optimizer = make_optimizer(
        stream.trainee, config.learning_rate, config.head_learning_rate, config.weight_decay
    )
    schedule = LambdaLR(optimizer, lambda step: rate_factor(config, min(step, config.steps - 1)))
    watch = Watch(subject)
    losses: list[float] = []

    class Told(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            order.seed_step(0, state.global_step, 0)

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            watch.after_step(state.global_step - 1)

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    class InOrder(transformers.Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(range(config.steps * config.batch_size))

    # Trainer prints every log.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        InOrder(
            model,
            transformers.TrainingArguments(
                folder,
                max_steps=config.steps,
                per_device_train_batch_size=config.batch_size,
                max_grad_norm=config.max_grad_norm,
                bf16=config.precision == "bf16",
                use_cpu=subject.device.type == "cpu",
                logging_steps=1,
                logging_strategy="steps",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
            ),
            data_collator=_collator(stream, subject.loaded.tokenizer.pad_id),
            train_dataset=Drawn(stream, config.batch_size, config.steps),
            optimizers=(optimizer, schedule),
            callbacks=[Told()],
        ).train()
    return watch.trained(losses)


class Drawn(Dataset[int]):
    """The rows of all steps, in the order of our loop."""

    def __init__(self, stream: Stream, batch_size: int, steps: int) -> None:
        batches = (stream.batch(batch_size, 0, step) for step in range(steps))
        self._rows = [row for batch in batches for row in batch]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> int:
        return self._rows[place]


class Classifier(nn.Module):
    """An encoder with its head, as Trainer wants it."""

    def __init__(self, trainee: nn.Module) -> None:
        super().__init__()
        assert isinstance(trainee, EncoderTrainee)
        self.trainee = trainee

    def forward(
        self, ids: Tensor, mask: Tensor, labels: Tensor, segments: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert self.trainee.head is not None
        logits = self.trainee.head(self.trainee.encoder(ids, mask, segments))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def _collator(stream: Stream, pad_id: int) -> Any:
    cpu = torch.device("cpu")

    def of_causal(batch: Sequence[int]) -> dict[str, Tensor]:
        rows = stream.rows
        assert isinstance(rows, CausalRows)
        ids, mask = pad([rows.ids[row] for row in batch], pad_id, cpu)
        labels = [
            [IGNORED] * rows.starts[row] + list(rows.ids[row][rows.starts[row] :]) for row in batch
        ]
        labelled, _ = pad(labels, IGNORED, cpu)
        return {"input_ids": ids, "attention_mask": mask, "labels": labelled}

    def of_encoder(batch: Sequence[int]) -> dict[str, Tensor]:
        rows = stream.rows
        assert isinstance(rows, EncoderRows)
        assert rows.labels is not None
        ids, mask, segments = rows.texts[0].batch(batch, pad_id, cpu)
        labels = torch.tensor([rows.labels[row] for row in batch])
        paired = {} if segments is None else {"segments": segments}
        return {"ids": ids, "mask": mask, "labels": labels, **paired}

    return of_causal if isinstance(stream.rows, CausalRows) else of_encoder


class _Divided(Subject):
    """What a causal model learns of a row is its last share, `learned`; the rest is the prompt."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator, learned: float) -> None:
        super().__init__(recipe, 0, accelerator)
        self._learned = learned

    def tokenise(self, examples: Examples) -> CausalRows:
        rows = super().tokenise(examples)
        assert isinstance(rows, CausalRows)
        # Nothing stands before the first token that it could be told from.
        starts = [max(1, len(ids) - math.ceil(self._learned * len(ids))) for ids in rows.ids]
        return CausalRows(rows.ids, starts, kept=rows.kept)


def _subject(recipe: Recipe, learned: float | None) -> Subject:
    accelerator = accelerator_of(recipe.config)
    order.seed_step(0, 0, 0)  # a head is random
    if learned is None:
        return Subject(recipe, 0, accelerator)
    return _Divided(recipe, accelerator, learned)


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """`settings`: of a run, as params.yaml has them."""
    config = RunConfig(**settings)
    return read_recipe("benchmark", config, read_json(Path(f"models/base/{config.case}.json")))


def _body_and_head(subject: Subject, stream: Stream) -> tuple[nn.Module, nn.Module]:
    if isinstance(subject.loaded, CausalModel):
        return decoder(subject.body), subject.body.get_output_embeddings()
    assert isinstance(stream.trainee, EncoderTrainee)
    assert stream.trainee.head is not None
    return subject.body, stream.trainee.head
