"""An encoder in training: with a head where its task has labels, by contrast where not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.inputs.encoder import read
from stages.models.encoder import Encoder, Inputs, Tokenizer, embed
from stages.models.probe import Probe, fit_probe
from stages.tasks.examples import Examples
from stages.training import losses
from stages.training.trainee import Output, Rows, Trainee

PROBE_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class EncoderRows:
    """What is read of each row, one a text that is embedded, and labels where there are any."""

    texts: tuple[Inputs, ...]
    labels: list[int] | None

    def __len__(self) -> int:
        return len(self.texts[0])

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return list(map(max, zip(*(text.lengths(indices) for text in self.texts), strict=True)))

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)


def tokenise(examples: Examples, tokenizer: Tokenizer) -> EncoderRows:
    task = examples.task
    if task.kind == "retrieval":
        texts = (tokenizer(examples.column(name), task.max_length) for name in task.texts)
        return EncoderRows(tuple(map(Inputs, texts)), None)
    return EncoderRows((read(examples, tokenizer),), examples.targets())


class EncoderTrainee(Trainee):
    def __init__(self, encoder: Encoder, classes: int, pad_id: int) -> None:
        """`classes`: outputs of the head; 0 for a task without labels."""
        super().__init__()
        self.encoder = encoder
        self.pad_id = pad_id
        self.head = nn.Linear(encoder.body.config.hidden_size, classes) if classes else None
        self.in_batch = not classes

    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        assert isinstance(rows, EncoderRows)
        vectors = [self._encode(text, indices) for text in rows.texts]
        features = torch.stack(vectors, dim=1).flatten(0, 1)
        owner = torch.arange(len(indices), device=self.device).repeat_interleave(len(vectors))
        logits = self.classify(features)
        if logits is None or rows.labels is None:
            return Output(losses.contrastive(*vectors), features, owner)
        labels = torch.tensor([rows.labels[i] for i in indices], device=self.device)
        smoothing = self.smoothing if self.training else 0.0
        found = losses.classification(logits, labels, smoothing)
        if self.training and self.class_weights is not None:
            found = found * self.class_weights[labels]
        return Output(found, features, owner, logits, labels)

    def classify(self, features: Tensor) -> Tensor | None:
        return None if self.head is None else self.head(features).float()

    def _encode(self, inputs: Inputs, indices: Sequence[int]) -> Tensor:
        vectors: Tensor = self.encoder(*inputs.batch(indices, self.pad_id, self.device))
        return vectors

    @torch.no_grad()
    def start_from_probe(self, rows: EncoderRows) -> None:
        """Set the head to the probe fitted on the encoder as it is now (Kumar et al. 2022)."""
        if self.head is None or rows.labels is None:
            return
        embedded = embed(self.encoder, rows.texts[0], self.pad_id, PROBE_BATCH_TOKENS)
        self.set_head(fit_probe(embedded, np.asarray(rows.labels), self.head.out_features))

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
