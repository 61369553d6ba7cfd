"""Supervised contrastive loss beside that of the head (Khosla et al. 2020, arXiv 2004.11362;
Gunel et al. 2021, arXiv 2011.01403)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from stages.training.methods.labelled import misfit_of_labels
from stages.training.methods.method import Fit, Method
from stages.training.objective import Batch, Term
from stages.training.subject import Subject


class SupervisedContrastive(Method):
    """Adds `weight` times the loss; `temperature` is of cosine similarities."""

    name: ClassVar[str] = "supervised-contrastive"
    in_batch: ClassVar[bool] = True
    weight: Annotated[float, Field(gt=0)]
    temperature: Annotated[float, Field(gt=0)]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_labels(fit)

    def term(self, subject: Subject) -> Term:
        def term(batch: Batch) -> Tensor:
            output = batch.output
            assert output.labels is not None
            with torch.autocast(output.features.device.type, enabled=False):
                losses = supervised_contrastive(output.features, output.labels, self.temperature)
            return self.weight * batch.mean(output.by_row(losses))

        return term


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Features [n, hidden] and their labels [n] -> [n], in fp32.

    Of each row the mean over the others of its label of -log softmax over all others (Khosla et
    al., section 3.2.2, equation 2); 0 where the batch has no other of its label.
    """
    unit = functional.normalize(features.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    scores = unit @ unit.T / temperature
    # Not -inf: of a row alone in its batch the gradient would be none.
    log_shares = scores.masked_fill(itself, torch.finfo(scores.dtype).min).log_softmax(dim=1)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    return -log_shares.where(alike, 0.0).sum(dim=1) / alike.sum(dim=1).clamp_min(1)
