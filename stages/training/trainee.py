"""What turns rows into losses: one trainee a kind of model and task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.models.sharing import dealt
from stages.models.texts import batches_by_tokens
from stages.training.losses import vocabulary


class Rows(Protocol):
    """Tokenised examples."""

    def __len__(self) -> int: ...

    @property
    def owners(self) -> Sequence[int]:
        """The example that each row is of."""

    def lengths(self, indices: Sequence[int]) -> list[int]:
        """Tokens of each of the rows."""

    def weight(self, indices: Sequence[int]) -> int:
        """What the summed loss of these rows is divided by: rows, or labelled tokens."""


@dataclass(frozen=True)
class Output:
    """What a forward pass gives, for the loss and for whatever else is taken on it.

    `losses` [rows]: summed over what each row's loss is taken on. `features` [n, hidden]: of an
    encoder the embedding of each text, of a causal model the hidden state before each labelled
    token; row after row. `owner` [n]: the row, in this batch, of each feature. `logits`, made when
    asked for, [n, classes or vocabulary] in fp32, and `labels` [n]: of each feature, where there is
    a head.
    """

    losses: Tensor
    features: Tensor
    owner: Tensor
    logits: Callable[[], Tensor] | None = None
    labels: Tensor | None = None

    def by_row(self, values: Tensor) -> Tensor:
        """Values [n], one a feature -> [rows], summed."""
        return torch.zeros_like(self.losses).index_add(0, self.owner, values)


class Trainee(nn.Module):
    """Base of the trainees: forward(rows, indices) -> Output."""

    in_batch = False
    """Whether a row's loss depends on the rows beside it."""
    smoothing = 0.0
    """Share of the label that goes to all classes alike, in training."""
    class_weights: Tensor | None = None
    """[classes]: what the loss of a row is multiplied by, in training; encoders with labels."""

    def __call__(self, rows: Rows, indices: Sequence[int]) -> Output:
        output: Output = super().__call__(rows, indices)
        return output

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class Writer(Trainee):
    """Base of those of a model that writes."""

    def __init__(self, model: Any, pad_id: int) -> None:
        super().__init__()
        self.model = model
        self.pad_id = pad_id

    def judged(
        self,
        states: Tensor,
        text: Tensor,
        labels: Tensor,
        head: Callable[[Tensor], Tensor],
        finish: Callable[[Tensor], Tensor],
    ) -> Output:
        """The cross-entropy of each row's text. The vocabulary head is applied where a token is
        predicted, and nowhere else.

        `text` [rows, length]: where the `labels` [n] stand; `states` [n, hidden]: those before
        them. `head`: states to a product [n, vocabulary], of which `finish` makes logits in fp32.
        """
        product = head(states)
        owner = torch.arange(len(text), device=text.device)[:, None].expand_as(text)[text]
        found = vocabulary(product, labels, finish, self.smoothing if self.training else 0.0)
        by_row = torch.zeros(len(text), device=text.device).index_add(0, owner, found)
        return Output(by_row, states, owner, partial(finish, product), labels)


def _losses(trainee: Trainee, rows: Rows, indices: Sequence[int]) -> Tensor:
    return trainee(rows, indices).losses


@torch.no_grad()
def mean_loss(
    trainee: Trainee,
    rows: Rows,
    indices: Sequence[int],
    batch_size: int,
    losses: Callable[[Trainee, Rows, Sequence[int]], Tensor] = _losses,
    *,
    deal: bool = True,
) -> float:
    """Mean loss over `indices` in evaluation mode; `deal`: each process takes some of the batches.

    Where the loss depends on the batch it is taken over `batch_size` rows in the order given;
    else rows of like length are batched.
    """
    trainee.eval()
    if trainee.in_batch:
        batches = [indices[at : at + batch_size] for at in range(0, len(indices), batch_size)]
    else:
        lengths = rows.lengths(indices)
        batches = [
            [indices[position] for position in batch]
            for batch in batches_by_tokens(lengths, batch_size * max(lengths))
        ]

    def read(batch: Sequence[int]) -> float:
        return float(losses(trainee, rows, batch).sum())

    total = sum(loss for _, loss in dealt(batches, read)) if deal else sum(map(read, batches))
    trainee.train()
    return total / rows.weight(indices)
