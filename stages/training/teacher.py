"""What a frozen model makes of the rows that a run trains on, taken once before it trains."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stages.errors import UserError
from stages.models.base import materialise
from stages.models.causal import apply_head
from stages.models.loading import EncoderModel, Seq2SeqModel, load
from stages.models.seq2seq import Head
from stages.models.sharing import dealt
from stages.models.texts import batches_by_tokens
from stages.models.tuned import MANIFEST
from stages.progress import bar
from stages.storage import read_json
from stages.tasks.examples import Examples
from stages.training import causal, encoder, seq2seq
from stages.training.objective import Batch
from stages.training.stream import Stream
from stages.training.subject import Subject
from stages.training.trainee import Rows, Trainee

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Teacher:
    """`features`: of each row [k, hidden], kept on the CPU. `classify`: features to logits by the
    frozen head; None where it has none."""

    features: dict[int, Tensor]
    classify: Callable[[Tensor], Tensor | None]

    def of(self, batch: Batch) -> Tensor:
        """The teacher's features [n, hidden] of a batch, in the order of the student's."""
        features = torch.cat([self.features[row] for row in batch.indices])
        return features.to(batch.output.features.device)


def teach(subject: Subject, trainee: Trainee, rows: Rows, stream: Stream) -> Teacher:
    """Ask `trainee` for what it makes of `rows`: those that the run will draw from `stream`."""
    config = subject.config
    indices = stream.seen(config.batch_size, subject.seed, config.steps)
    return Teacher(_features(subject, trainee, rows, indices), _frozen_head(trainee))


@torch.no_grad()
def _features(
    subject: Subject, trainee: Trainee, rows: Rows, indices: Sequence[int]
) -> dict[int, Tensor]:
    subject.place(trainee)
    trainee.eval()

    def read(chosen: list[int]) -> list[Tensor]:
        with subject.accelerator.autocast():
            output = trainee(rows, chosen)
        counts = torch.bincount(output.owner, minlength=len(chosen)).tolist()
        # Views would be sent to other processes with all of what they are views of, each.
        return [part.clone() for part in torch.split(output.features.cpu(), counts)]

    found: dict[int, Tensor] = {}
    places = list(batches_by_tokens(rows.lengths(indices), BATCH_TOKENS))
    batches = [[indices[place] for place in batch] for batch in places]
    shown = bar(batches, desc=f"{subject.recipe.name}, teacher", unit="batch")
    for chosen, features in dealt(shown, read):
        found.update(zip(chosen, features, strict=True))
    return found


def _frozen_head(trainee: Trainee) -> Callable[[Tensor], Tensor | None]:
    if isinstance(trainee, causal.CausalTrainee):
        # Tied to the embeddings, the head would change with the student's.
        head = copy.deepcopy(trainee.model.get_output_embeddings()).requires_grad_(False)
        config = trainee.model.config
        return lambda features: apply_head(head, config, features)
    if isinstance(trainee, seq2seq.Seq2SeqTrainee):
        frozen = Head(trainee.model)
        frozen.layer = copy.deepcopy(frozen.layer).requires_grad_(False)
        return frozen
    assert isinstance(trainee, encoder.EncoderTrainee)
    if trainee.head is None:
        return lambda _: None
    probe: nn.Module = copy.deepcopy(trainee.head).requires_grad_(False)
    return lambda features: probe(features).float()


def divergence(taught: Tensor, learned: Tensor, temperature: float) -> Tensor:
    """T^2 KL(p0 || p) of logits [n, classes] at temperature T -> [n] (Hinton et al. 2015,
    arXiv 1503.02531, section 2: T^2 keeps the gradient's size)."""
    p0, p = (
        functional.log_softmax(logits.float() / temperature, dim=-1) for logits in (taught, learned)
    )
    kl = functional.kl_div(p, p0, reduction="none", log_target=True).sum(-1)
    return kl * temperature**2


@torch.no_grad()
def probabilities(subject: Subject, trainee: Trainee, rows: Rows) -> NDArray[np.float32]:
    """Of each row [rows, classes], by a trainee with a head of classes."""
    found = _features(subject, trainee, rows, range(len(rows)))
    assert isinstance(trainee, encoder.EncoderTrainee)
    logits = trainee.classify(
        torch.cat([found[row] for row in range(len(rows))]).to(subject.device)
    )
    assert logits is not None
    return np.asarray(logits.softmax(-1).cpu())


def load_teacher(
    folder: Path, subject: Subject, examples: Examples, seed: int | None = None
) -> tuple[Trainee, Rows]:
    """The tuned model of another run, of `seed` or of its first one, and a target's rows as it
    reads them.

    Raises UserError where what it says of them cannot be compared with what the student says.
    """
    seeds = sorted(folder.glob("seed-*"), key=lambda path: int(path.name.split("-")[1]))
    tuned = seeds[0] if seed is None else folder / f"seed-{seed}"
    manifest = read_json(tuned / MANIFEST)
    loaded = load(manifest, materialise(manifest), tuned)
    task, where = examples.task, subject.device
    if not isinstance(loaded, EncoderModel):
        read: Rows
        writer: Trainee
        if isinstance(loaded, Seq2SeqModel):
            read = seq2seq.tokenise(examples, loaded.tokenizer)
            writer = seq2seq.Seq2SeqTrainee(loaded.model, loaded.tokenizer.pad_id)
        else:
            read = causal.tokenise(examples, loaded.tokenizer)
            writer = causal.CausalTrainee(loaded.model, loaded.tokenizer.pad_id)
        if subject.tokenise(examples) != read:
            raise UserError(f"{folder}: reads {task.name} in other tokens than the student")
        return writer.to(where), read
    texts = encoder.tokenise(examples, loaded.tokenizer)
    head = loaded.heads.get(task.name)
    if not head or len(head.bias) != task.outputs:
        raise UserError(f"{folder}: has no head for the {task.outputs} labels of {task.name}")
    if task.head == "words" and not _same_words(texts, subject.tokenise(examples)):
        raise UserError(
            f"{folder}: reads other words of {task.name} than the student, whose tokenizer cuts "
            f"rows off elsewhere: raise tasks.{task.name}.max_length, or give another teacher"
        )
    trainee = encoder.EncoderTrainee(loaded.encoder, task, loaded.tokenizer.pad_id)
    trainee.set_head(head)
    return trainee.to(where), texts


def _same_words(*of_both: Rows) -> bool:
    """Whether each row's places stand for the same words."""
    first, second = (rows.texts[0] for rows in of_both if isinstance(rows, encoder.EncoderRows))
    return first.items == second.items
