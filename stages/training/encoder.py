"""An encoder in training: with a head where its task has labels, by contrast where not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.inputs.encoder import labels_of, read
from stages.models.encoder import Encoder, features
from stages.models.probe import UNKNOWN, Probe, Sample
from stages.models.texts import Inputs, Tokenizer
from stages.tasks.examples import Examples, Task
from stages.training import losses
from stages.training.trainee import Output, Rows, Trainee

PROBE_TOKENS = 8192


@dataclass(frozen=True)
class EncoderRows:
    """What is read of each row, one a text that is embedded, and labels where there are any."""

    texts: tuple[Inputs, ...]
    labels: list[Any] | None
    head: str | None = None

    def __len__(self) -> int:
        return len(self.texts[0])

    @property
    def owners(self) -> Sequence[int]:
        """The example that each row is of: of a question with a long context several are."""
        owners = self.texts[0].owners
        return range(len(self)) if owners is None else owners

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return list(map(max, zip(*(text.lengths(indices) for text in self.texts), strict=True)))

    def weight(self, indices: Sequence[int]) -> int:
        """Rows, or words that are tagged."""
        if self.head != "words" or self.labels is None:
            return len(indices)
        words = (label for i in indices for label in self.labels[i])
        return max(1, sum(1 for label in words if label != UNKNOWN))


def tokenise(examples: Examples, tokenizer: Tokenizer) -> EncoderRows:
    task = examples.task
    if task.kind == "retrieval":
        texts = (tokenizer(examples.column(name), task.max_length) for name in task.texts)
        return EncoderRows(tuple(map(Inputs, texts)), None)
    inputs = read(examples, tokenizer)
    return EncoderRows((inputs,), labels_of(examples, inputs), task.head)


class EncoderTrainee(Trainee):
    def __init__(self, encoder: Encoder, task: Task, pad_id: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad_id = pad_id
        width = encoder.body.config.hidden_size * (2 if task.head == "entities" else 1)
        self.head = nn.Linear(width, task.outputs) if task.outputs else None
        self.in_batch = not task.outputs

    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        assert isinstance(rows, EncoderRows)
        if rows.texts[0].places is not None and not rows.texts[0].joined:
            return self._of_places(rows, indices)
        vectors = [self._encode(text, indices) for text in rows.texts]
        pooled = torch.stack(vectors, dim=1).flatten(0, 1)
        owner = torch.arange(len(indices), device=self.device).repeat_interleave(len(vectors))
        logits = self.classify(pooled)
        if logits is None or rows.labels is None:
            return Output(losses.contrastive(*vectors), pooled, owner)
        if rows.head in losses.OF_TEXTS:
            wanted = torch.tensor([rows.labels[i] for i in indices], device=self.device)
            return Output(losses.OF_TEXTS[rows.head](logits, wanted), pooled, owner, lambda: logits)
        labels = torch.tensor([rows.labels[i] for i in indices], device=self.device)
        smoothing = self.smoothing if self.training else 0.0
        found = losses.classification(logits, labels, smoothing)
        if self.training and self.class_weights is not None:
            found = found * self.class_weights[labels]
        return Output(found, pooled, owner, lambda: logits, labels)

    def _of_places(self, rows: EncoderRows, indices: Sequence[int]) -> Output:
        inputs = rows.texts[0]
        assert inputs.places is not None
        assert rows.labels is not None
        states = self.encoder.states(*inputs.batch(indices, self.pad_id, self.device))
        counts = [len(inputs.places[i]) for i in indices]
        owner = torch.arange(len(indices)).repeat_interleave(torch.tensor(counts)).to(self.device)
        places = torch.tensor([place for i in indices for place in inputs.places[i]])
        of_places = states[owner, places.to(self.device)]
        labels = torch.tensor([label for i in indices for label in rows.labels[i]])
        labels = labels.to(self.device)
        logits = self.classify(of_places)
        assert logits is not None
        if rows.head == "span":
            by_row = losses.spans(logits, counts, labels.view(-1, 2))
            return Output(by_row, of_places, owner, lambda: logits)
        found = losses.classification(logits, labels, ignored=UNKNOWN)
        by_row = torch.zeros(len(indices), device=self.device).index_add(0, owner, found)
        return Output(by_row, of_places, owner, lambda: logits, labels)

    def classify(self, features: Tensor) -> Tensor | None:
        """Features [n, hidden] -> logits [n, classes] in fp32; None if headless."""
        return None if self.head is None else self.head(features).float()

    def _encode(self, inputs: Inputs, indices: Sequence[int]) -> Tensor:
        """[rows, hidden], pooled; or the states of each row's places side by side."""
        given = inputs.batch(indices, self.pad_id, self.device)
        if inputs.places is None:
            pooled: Tensor = self.encoder(*given)
            return pooled
        places = torch.tensor([inputs.places[i] for i in indices], device=self.device)
        rows = torch.arange(len(indices), device=self.device)[:, None]
        return self.encoder.states(*given)[rows, places].flatten(1)

    @torch.no_grad()
    def start_from_probe(self, rows: EncoderRows) -> None:
        """Set the head to the probe fitted on the encoder as it is now (Kumar et al. 2022), where
        the labels of the rows are not all the same."""
        if self.head is None or rows.labels is None:
            return
        seen = features(self.encoder, rows.texts[0], self.pad_id, PROBE_TOKENS)
        assert rows.head is not None
        sample = Sample.of(rows.head, seen, rows.labels)
        if sample.varied:
            self.set_head(sample.fit(self.head.out_features))

    @torch.no_grad()
    def set_head(self, probe: Probe) -> None:
        assert self.head is not None
        self.head.weight.copy_(torch.as_tensor(probe.weight))
        self.head.bias.copy_(torch.as_tensor(probe.bias))

    def final_head(self) -> Probe | None:
        if self.head is None:
            return None
        weight, bias = (
            parameter.detach().float().cpu().numpy()
            for parameter in (self.head.weight, self.head.bias)
        )
        return Probe(weight, bias)
