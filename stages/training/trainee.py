"""What the loop trains: something that turns rows into losses."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from stages.models.encoder import batches_by_tokens


class Rows(Protocol):
    """Tokenised examples."""

    def __len__(self) -> int: ...

    def lengths(self, indices: Sequence[int]) -> list[int]:
        """Tokens of each of the rows."""

    def weight(self, indices: Sequence[int]) -> int:
        """What the summed loss of these rows is divided by: rows, or labelled tokens."""


class Trainee(nn.Module):
    """Base of the trainees, one a kind of model.

    forward(rows, indices) -> the loss of each of those rows, summed over what it is taken on.
    """

    in_batch = False
    """Whether a row's loss depends on the rows beside it."""

    def __call__(self, rows: Rows, indices: Sequence[int]) -> Tensor:
        losses: Tensor = super().__call__(rows, indices)
        return losses


@torch.no_grad()
def mean_loss(trainee: Trainee, rows: Rows, indices: Sequence[int], batch_size: int) -> float:
    """Mean loss over `indices` in evaluation mode.

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
    total = sum(float(trainee(rows, batch).sum()) for batch in batches)
    trainee.train()
    return total / rows.weight(indices)
