"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796): weights that old
tasks are sensitive to are held, the others may move."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from stages.config.reading import Names
from stages.errors import UserError
from stages.progress import bar
from stages.training import order
from stages.training.displacement import Displacement, summed
from stages.training.methods.displaced import misfit_of_displacement
from stages.training.methods.method import Fit, Method
from stages.training.methods.retained import misfit_of_retained
from stages.training.objective import Penalty
from stages.training.subject import Subject
from stages.training.trainee import Rows, Trainee


class Ewc(Method):
    """strength/2 * sum F (w - w0)^2 over the body (equation 3).

    F: diagonal Fisher information of `tasks`, all alike, at the base weights, on at most `rows`
    train rows of each, none twice; scaled to a mean of 1 over all weights of the body.
    """

    name: ClassVar[str] = "ewc"
    strength: Annotated[float, Field(gt=0)]
    tasks: Names
    rows: Annotated[int, Field(ge=2)]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_retained(self.tasks, fit) or misfit_of_displacement(fit)

    def sees(self) -> tuple[str, ...]:
        return self.tasks

    def penalty(self, subject: Subject) -> Penalty:
        """Raises UserError where the information of a task is not finite, or is nowhere."""
        displacement = Displacement(subject)
        information = self._information(subject)

        def penalty() -> Tensor:
            held = [
                (information[name] * delta.square()).sum() for name, delta in displacement().items()
            ]
            return self.strength / 2 * summed(subject, held)

        return penalty

    def _information(self, subject: Subject) -> dict[str, Tensor]:
        """By name of the weight, of its shape; mean 1."""
        weights = dict(subject.body.named_parameters())
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for task in sorted(self.tasks):
            stream = subject.learn(subject.recipe.retain[task], 1.0, "probe")
            count = min(self.rows, len(stream.rows))
            chosen = [int(row) for row in order.draw(len(stream.rows), subject.seed, 0, count)]
            batches = bar(
                list(alone_or_together(stream.trainee, chosen, subject.config.batch_size)),
                desc=f"{subject.recipe.name}, Fisher information of {task}",
                unit="batch",
            )
            with torch.autocast(subject.device.type, enabled=False):
                found = fisher(stream.trainee, stream.rows, batches, list(weights.values()))
            for name, information in zip(weights, found, strict=True):
                if not information.isfinite().all():
                    raise self._mistake(
                        subject, f"{task}: the Fisher information of {name} is not finite"
                    )
                total[name] += information
        mean = sum(float(part.sum(dtype=torch.float64)) for part in total.values())
        mean /= sum(part.numel() for part in total.values())
        if mean == 0:
            raise self._mistake(subject, "no weight has any Fisher information")
        return {name: part.div_(mean) for name, part in total.items()}

    def _mistake(self, subject: Subject, what: str) -> UserError:
        return UserError(
            f"runs.{subject.recipe.name}.methods.ewc.tasks = {', '.join(self.tasks)}: {what}; "
            "choose other tasks"
        )


def alone_or_together(
    trainee: Trainee, indices: Sequence[int], batch_size: int
) -> Iterator[list[int]]:
    """Rows one by one; where a row's loss needs others beside it, in batches of like size."""
    size = batch_size if trainee.in_batch else 1
    for batch in np.array_split(np.asarray(indices), -(-len(indices) // size)):
        yield batch.tolist()


def fisher(
    trainee: Trainee,
    rows: Rows,
    batches: Iterable[list[int]],
    weights: Sequence[nn.Parameter],
) -> list[Tensor]:
    """The diagonal of the empirical Fisher information, of each weight's shape.

    Its definition is an expectation over samples: each row's own gradient is squared, then the
    mean is taken. The square of a batch's mean gradient would be another thing (Kunstner et al.
    2019, arXiv 1905.12558, section 2).
    """
    trainee.eval()
    totals = [torch.zeros_like(weight) for weight in weights]
    count = 0
    for batch in batches:
        losses = trainee(rows, batch).losses
        for position, loss in enumerate(losses, start=1):
            gradients = torch.autograd.grad(
                loss, weights, retain_graph=position < len(losses), allow_unused=True
            )
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
        count += len(losses)
    return [total.div_(count) for total in totals]
