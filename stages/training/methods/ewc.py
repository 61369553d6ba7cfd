"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796): weights that old
tasks are sensitive to are held, the others may move.

Over the steps of a sequence it is the online form (Schwarz et al. 2018, arXiv 1805.06370, section
4; Huszar 2017, arXiv 1712.03847), without decay: one penalty, around the weights that the step
starts from, with the sum of the information that each step took.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file
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

LEFT = "ewc.safetensors"
"""What a step of a sequence leaves beside its model: the F that it held its weights by."""


class Ewc(Method):
    """strength/2 * sum F (w - w0)^2 over the body (equation 3).

    w0: the weights that the run starts from. F: diagonal Fisher information of `tasks`, all alike,
    at w0, on at most `rows` train rows of each, none twice; scaled to a mean of 1 over all weights
    of the body. To it a step of a sequence adds what the step before held its own weights by, if
    that had ewc: so each step names the tasks that are new to it, such as the last one's targets.
    """

    name: ClassVar[str] = "ewc"
    needs_whole: ClassVar[bool] = True
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
        if subject.start:
            for name, held in self._before(subject, subject.start / LEFT).items():
                information[name] += held
        if subject.config.is_step:
            subject.left[LEFT] = {name: held.cpu() for name, held in information.items()}

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
            stream = subject.learn(subject.recipe.old[task], 1.0, "probe")
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

    def _before(self, subject: Subject, path: Path) -> dict[str, Tensor]:
        """What the step before left; nothing where it had no ewc."""
        if not path.exists():
            return {}
        found = load_file(path, device=str(subject.device))
        weights = dict(subject.body.named_parameters())
        if {name: held.shape for name, held in found.items()} != {
            name: weight.shape for name, weight in weights.items()
        }:
            raise UserError(f"{path}: of other weights than the model's; run `dvc repro`")
        return found

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
