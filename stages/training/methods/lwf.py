"""Learning without forgetting: stay near what the base, or the step before, says of the target's
inputs (Li and Hoiem 2016, arXiv 1606.09282)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stages.training.encoder import EncoderRows
from stages.training.methods.masks import misfit_of_masks
from stages.training.methods.method import Fit, Method
from stages.training.objective import Batch, Term
from stages.training.subject import Subject
from stages.training.teacher import divergence, teach


class Lwf(Method):
    """Of a causal model, the divergence of next-token distributions from the base's at
    `temperature`, whose hidden states are kept and whose frozen head is applied anew; of an
    encoder, which has no old head, the distance of embeddings from the base's, a mean over what a
    row has of them."""

    name: ClassVar[str] = "lwf"
    weight: Annotated[float, Field(gt=0)]
    temperature: Annotated[float, Field(gt=0)] | None = None

    def misfit(self, fit: Fit) -> str | None:
        if fit.model == "encoder" and self.temperature is not None:
            return "temperature is of logits, and an encoder's embeddings have none: leave it out"
        if fit.model != "encoder" and self.temperature is None:
            return "give a temperature, such as 2"
        return misfit_of_masks(fit)

    def term(self, subject: Subject) -> Term:
        teachers = {
            stream.task: teach(subject, stream.trainee, stream.rows, stream)
            for stream in subject.targets
        }

        def term(batch: Batch) -> Tensor:
            teacher, output = teachers[batch.stream.task], batch.output
            taught = teacher.of(batch)
            if self.temperature is None:
                distance = relative_distance(taught, output.features)
                return self.weight * batch.mean(_weighed(batch, distance))
            old = teacher.classify(taught)
            assert output.logits is not None
            assert old is not None
            distance = divergence(old, output.logits(), self.temperature)
            return self.weight * batch.mean(output.by_row(distance))

        return term


def _weighed(batch: Batch, distance: Tensor) -> Tensor:
    """Distances [n] of an encoder's features -> [rows]: summed where words are what rows are
    weighed by, else a row's mean, whether it has one embedding, two, or one a token."""
    rows, output = batch.stream.rows, batch.output
    assert isinstance(rows, EncoderRows)
    by_row = output.by_row(distance)
    if rows.head == "words":
        return by_row
    return by_row / output.by_row(torch.ones_like(distance))


def relative_distance(taught: Tensor, learned: Tensor) -> Tensor:
    """Squared distance of embeddings [n, hidden] over the squared length of the old one -> [n].

    Relative, so that one weight means the same for models whose embeddings differ in size.
    """
    taught, learned = taught.float(), learned.float()
    moved = (learned - taught).square().sum(-1)
    return moved / taught.square().sum(-1)
