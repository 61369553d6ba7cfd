"""What a step of training minimises: the losses of its streams, and what the methods add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.training.stream import Stream
from stages.training.trainee import Output, Rows, Trainee


@dataclass(frozen=True)
class Batch:
    """The rows of one stream in one share of a step, and what the model made of them.

    `factor`: what a sum over these rows is multiplied by to become a part of the objective.
    """

    stream: Stream
    indices: Sequence[int]
    output: Output
    factor: float

    def mean(self, by_row: Tensor) -> Tensor:
        """Values [rows], summed over what the loss is taken on -> the share's part of their mean
        over the whole step, weighed by the stream's rows in it."""
        return by_row.sum() * self.factor


Term = Callable[[Batch], Tensor]
"""What a method adds to the loss of a batch of the target: a scalar, see Batch.mean."""
Penalty = Callable[[], Tensor]
"""What a method adds to every step, from the weights alone: a scalar."""


class Objective(nn.Module):
    """forward(seed, step) -> the parts of the objective by name, scalars to be summed.

    Of a step that is taken in several shares, one after the other or by as many processes, each
    gives the same parts, and their means over the shares are those of the whole step.
    A row of any stream counts like any other: the mean loss of a stream's rows in a step is
    weighed by their number over the run's batch size. `targets` of the streams, the first, are
    what the terms are taken on.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        targets: int,
        terms: Mapping[str, Term],
        penalties: Mapping[str, Penalty],
        batch_size: int,
    ) -> None:
        super().__init__()
        self.streams = list(streams)
        self.targets = targets
        self.trainees = nn.ModuleList(dict.fromkeys(stream.trainee for stream in streams))
        self.terms, self.penalties = dict(terms), dict(penalties)
        self.batch_size = batch_size
        # By this name accelerate asks which layers FSDP takes one at a time.
        models = (module for module in self.modules() if isinstance(module, PreTrainedModel))
        self._no_split_modules = sorted(
            {name for model in models for name in model._no_split_modules or ()}
        )

    def losses(self, trainee: Trainee, rows: Rows, indices: Sequence[int]) -> Tensor:
        """Of the rows [rows], with nothing that a method adds."""
        return trainee(rows, indices).losses

    def forward(self, seed: int, step: int, number: int = 0, shares: int = 1) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        for position, stream in enumerate(self.streams):
            chosen = stream.batch(self.batch_size, seed, step)
            if not chosen:
                continue
            share = stream.part(chosen, number, shares)
            stream = stream.at(seed, step)
            # The mean over shares, which may differ in weight, is that over all rows.
            factor = shares * len(chosen) / self.batch_size / stream.rows.weight(chosen)
            if not share:
                # All shares call the same layers: processes wait for each other there.
                share, factor = chosen[:1], 0.0
            batch = Batch(stream, share, stream.trainee(stream.rows, share), factor)
            parts[stream.task] = batch.mean(batch.output.losses)
            if position < self.targets:
                for name, term in self.terms.items():
                    parts[name] = parts.get(name, 0.0) + term(batch)
        with torch.autocast(stream.trainee.device.type, enabled=False):
            for name, penalty in self.penalties.items():
                parts[name] = penalty()
        return parts
