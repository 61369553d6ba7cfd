"""What is trained: an encoder, the head of a labelled task, and the loss over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.models.encoder import Encoder, TokenIds, Tokenizer, batches_by_tokens, embed, pad
from stages.models.probe import Probe, fit_probe
from stages.tasks.examples import Examples
from stages.training import losses


@dataclass(frozen=True)
class Rows:
    """Tokenised examples: one list of token ids a text column, and labels where there are any."""

    texts: tuple[list[TokenIds], ...]
    labels: list[int] | None

    def __len__(self) -> int:
        return len(self.texts[0])


def tokenise(examples: Examples, tokenizer: Tokenizer) -> Rows:
    task = examples.task
    return Rows(
        texts=tuple(tokenizer(examples.column(name), task.max_length) for name in task.texts),
        labels=examples.targets() if task.labelled else None,
    )


class Trainee(nn.Module):
    """forward: a batch of rows -> their losses [rows]."""

    def __init__(self, encoder: Encoder, classes: int, pad_id: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad_id = pad_id
        self.head: nn.Linear | None = None
        if classes:
            self.head = nn.Linear(encoder.body.config.hidden_size, classes)

    def forward(self, rows: Rows, indices: Sequence[int]) -> Tensor:
        vectors = [self._encode([column[i] for i in indices]) for column in rows.texts]
        if self.head is None:
            return losses.contrastive(*vectors)
        if rows.labels is None:
            raise ValueError("a head needs labels")
        labels = torch.tensor([rows.labels[i] for i in indices], device=vectors[0].device)
        return losses.classification(self.head(vectors[0]), labels)

    def _encode(self, texts: Sequence[TokenIds]) -> Tensor:
        device = next(self.parameters()).device
        vectors: Tensor = self.encoder(*pad(texts, self.pad_id, device))
        return vectors

    @torch.no_grad()
    def start_from_probe(self, rows: Rows, batch_tokens: int) -> None:
        """Set the head to the probe fitted on the encoder as it is now (Kumar et al. 2022)."""
        if self.head is None or rows.labels is None:
            raise ValueError("only a labelled task has a head to start")
        embedded = embed(self.encoder, rows.texts[0], self.pad_id, batch_tokens)
        probe = fit_probe(embedded, np.asarray(rows.labels), self.head.out_features)
        self.head.weight.copy_(torch.as_tensor(probe.weight))
        self.head.bias.copy_(torch.as_tensor(probe.bias))

    def final_head(self) -> Probe | None:
        if self.head is None:
            return None
        weight, bias = (
            p.detach().float().cpu().numpy() for p in (self.head.weight, self.head.bias)
        )
        return Probe(weight, bias)


@torch.no_grad()
def mean_loss(trainee: Trainee, rows: Rows, indices: Sequence[int], batch_size: int) -> float:
    """Mean loss over `indices` in evaluation mode.

    In-batch negatives make the contrastive loss depend on the batches: it is taken over
    `batch_size` rows in the order given. A labelled task's rows are batched by length.
    """
    trainee.eval()
    if trainee.head is None:
        batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    else:
        lengths = [len(rows.texts[0][i]) for i in indices]
        longest = max(lengths)
        batches = [
            [indices[position] for position in batch]
            for batch in batches_by_tokens(lengths, batch_size * longest)
        ]
    total = sum(float(trainee(rows, batch).sum()) for batch in batches)
    trainee.train()
    return total / len(indices)
