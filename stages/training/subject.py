"""A model about to be trained: loaded, with its heads, and the rows that it learns from."""

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from stages.models.causal import decoder
from stages.models.documents import let_read_documents
from stages.models.four_bits import four_bits
from stages.models.loading import EncoderModel, Seq2SeqModel, load
from stages.models.masked import Masking
from stages.models.probe import Probe
from stages.models.tuned import quiet_peft
from stages.tasks.examples import Examples
from stages.training import causal, encoder, masked, seq2seq
from stages.training.causal import CausalTrainee
from stages.training.recipe import Recipe
from stages.training.seq2seq import Seq2SeqTrainee
from stages.training.stream import Stream
from stages.training.trainee import Rows, Trainee, Writer


class Subject:
    """What the methods of a run work on.

    `targets`: a stream each, drawn from alike, and `validation`: the rows of each by which
    training is judged. Both are there once `learn_targets` was called. `notes`: what methods found
    out on the way, by their names, for the report. `replayed`: streams that methods add. `left`:
    tensors that methods leave to the next step of a sequence, by file.
    """

    def __init__(self, recipe: Recipe, seed: int, accelerator: Accelerator) -> None:
        """Load what the run starts from. It stands on the accelerator's device; under FSDP, which
        takes one layer of it at a time from there, a model that writes is in main memory."""
        self.recipe, self.config, self.seed = recipe, recipe.config, seed
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        quantised = four_bits() if self.config.quantise else {}
        self.start = recipe.start / f"seed-{seed}" if recipe.start else None
        self.loaded = load(recipe.manifest, recipe.base, self.start, **quantised)
        self.targets: list[Stream] = []
        self.replayed: list[Stream] = []
        self.left: dict[str, dict[str, torch.Tensor]] = {}
        self.validation: list[Rows] = []
        self.notes: dict[str, Any] = {}
        self._ids: list[list[str]] = []
        self._writers: list[Writer] = []
        if isinstance(self.loaded, EncoderModel):
            self.loaded.encoder.to(self.device)
            return
        self._model = self.loaded.model
        if not quantised and accelerator.distributed_type != DistributedType.FSDP:
            self.place(self._model)

    def place(self, model: nn.Module) -> None:
        """Bring a model to the accelerator's device, if it is not there, to be read as it is."""
        if next(model.parameters()).device.type != self.device.type:
            model.to(self.device)

    @property
    def body(self) -> Any:
        """What an adapter is put around, and what is saved."""
        return self.loaded.encoder.body if isinstance(self.loaded, EncoderModel) else self._model

    @body.setter
    def body(self, body: Any) -> None:
        if isinstance(self.loaded, EncoderModel):
            self.loaded.encoder.body = body
            return
        self._model = body
        for trainee in self._writers:
            trainee.model = body

    def leave_out_padding(self) -> None:
        """Where the body can read without it; to be said again once it was changed.

        On a GPU torch's own attention of padded rows is faster than ours of many lengths.
        """
        if self.device.type != "cpu":
            return
        if isinstance(self.loaded, EncoderModel):
            self.loaded.encoder.unpadded = let_read_documents(self.body)
            return
        readers = [one for one in self._writers if isinstance(one, CausalTrainee)]
        if readers:
            unpadded = let_read_documents(decoder(self._model))
            for trainee in readers:
                trainee.unpadded = unpadded

    def tokenise(self, examples: Examples) -> Rows:
        if isinstance(self.loaded, EncoderModel):
            if examples.task.kind == "masked-lm":
                return masked.tokenise(examples, self._masking)
            return encoder.tokenise(examples, self.loaded.tokenizer)
        if isinstance(self.loaded, Seq2SeqModel):
            return seq2seq.tokenise(examples, self.loaded.tokenizer)
        return causal.tokenise(examples, self.loaded.tokenizer)

    def learn(self, examples: Examples, share: float, head: str | None) -> Stream:
        """A stream of a task's rows, with a trainee around this model.

        `head`: where the head of a task with labels starts, probe or random; that of an earlier
        target is there.
        """
        rows = self.tokenise(examples)
        if isinstance(self.loaded, EncoderModel):
            body, pad_id = self.loaded.encoder, self.loaded.tokenizer.pad_id
            if isinstance(rows, masked.MaskedRows):
                of_masks = masked.MaskedTrainee(body, self._masking, pad_id)
                return Stream(examples.task.name, of_masks, rows, share)
            assert isinstance(rows, encoder.EncoderRows)
            trainee = encoder.EncoderTrainee(body, examples.task, pad_id)
            trainee.to(self.device)
            if kept := self.loaded.heads.get(examples.task.name):
                trainee.set_head(kept)
            elif head == "probe":
                trainee.start_from_probe(rows)
            return Stream(examples.task.name, trainee, rows, share)
        return Stream(examples.task.name, self.writer(), rows, share)

    @cached_property
    def _masking(self) -> Masking:
        """One for all streams. Raises UserError where the base has no head for masked words."""
        assert isinstance(self.loaded, EncoderModel)
        return Masking(self.loaded.encoder, self.loaded.tokenizer.folder)

    def writer(self) -> Writer:
        """Another trainee around a model that writes."""
        made = Seq2SeqTrainee if isinstance(self.loaded, Seq2SeqModel) else CausalTrainee
        self._writers.append(made(self._model, self.loaded.tokenizer.pad_id))
        return self._writers[-1]

    def learn_targets(self, rewrite: Callable[[Examples], Examples]) -> None:
        """`rewrite`: what becomes of the train rows before they are tokenised."""
        share = 1 / len(self.recipe.train)
        for train, validation in zip(self.recipe.train, self.recipe.validation, strict=True):
            examples = rewrite(train)
            stream = self.learn(examples, share, self.config.head)
            self.targets.append(stream)
            ids = examples.column("example_id")
            self._ids.append([ids[owner] for owner in stream.rows.owners])
            self.validation.append(self.tokenise(validation))

    def trained(self, steps: int) -> dict[str, list[str]]:
        """Of each target, the ids of its own rows, not of those that methods made, which the first
        `steps` steps learned from: all, or as many as it has of validation. Ids are hashes: the
        first in their order are a sample."""
        found = {}
        recipe = zip(self.recipe.train, self.recipe.validation, strict=True)
        for stream, ids, (train, validation) in zip(self.targets, self._ids, recipe, strict=True):
            seen = stream.seen(self.config.batch_size, self.seed, steps)
            own = {ids[row] for row in seen}.intersection(train.column("example_id"))
            found[stream.task] = sorted(own)[: len(validation)]
        return found

    def heads(self) -> dict[str, Probe]:
        """The head of each target that has one, those of earlier steps as they are now."""
        kept = dict(self.loaded.heads) if isinstance(self.loaded, EncoderModel) else {}
        streams = [*(one for one in self.replayed if one.task in kept), *self.targets]
        heads = {stream.task: _head(stream.trainee) for stream in streams}
        return kept | {task: head for task, head in heads.items() if head}

    def saved(self) -> Any:
        """The body as it is saved: what a later step adds to is not the base, and no adapter of the
        base gives it again; so an adapter is merged into a copy."""
        if self.start is None or not hasattr(self.body, "peft_config"):
            return self.body
        with quiet_peft():
            return copy.deepcopy(self.body).merge_and_unload()


def _head(trainee: Trainee) -> Probe | None:
    return trainee.final_head() if isinstance(trainee, encoder.EncoderTrainee) else None
