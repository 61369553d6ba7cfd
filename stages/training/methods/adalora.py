"""AdaLoRA through PEFT (Zhang et al. 2023, arXiv 2303.10512): ranks are given to the layers that
need them while training goes on."""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stages.training.methods.method import Fit, Method
from stages.training.methods.peft_wrapper import misfit_of_adapter, wrap
from stages.training.objective import Penalty
from stages.training.subject import Subject

ADAPTER = "default"  # PEFT's name of the adapter of a model that has one
Rank = Annotated[int, Field(ge=1, le=1024)]
Steps = Annotated[int, Field(ge=0)]
Decay = Annotated[float, Field(gt=0, lt=1)]


class AdaLora(Method):
    """The names are those of PEFT's AdaLoraConfig; its `total_step` is the run's steps.

    Singular values start at `init_r` a layer. After `tinit` steps the least important go, every
    `deltaT` steps, until `tfinal` steps before the end `target_r` a layer are left on average.
    """

    name: ClassVar[str] = "adalora"
    needs_whole: ClassVar[bool] = True
    resumable: ClassVar[bool] = False  # the importance of singular values is a running mean
    target_r: Rank
    init_r: Rank
    tinit: Steps
    tfinal: Steps
    deltaT: Annotated[int, Field(ge=1)] = 1  # noqa: N815
    beta1: Decay = 0.85
    beta2: Decay = 0.85
    orth_reg_weight: Annotated[float, Field(ge=0)] = 0.5
    lora_alpha: Annotated[int, Field(ge=1)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def misfit(self, fit: Fit) -> str | None:
        if self.target_r > self.init_r:
            return f"target_r is over init_r: give {self.init_r} at most"
        if self.tinit + self.tfinal >= fit.run.steps:
            return (
                f"tinit and tfinal leave none of the run's {fit.run.steps} steps to cut ranks in: "
                f"give {fit.run.steps - 1} together at most"
            )
        return misfit_of_adapter(self.name, fit)

    def penalty(self, subject: Subject) -> Penalty | None:
        """How far singular vectors are from orthogonal (equation 4). PEFT adds this only to a loss
        that the model itself returns."""
        if not self.orth_reg_weight:
            return None
        return lambda: self.orth_reg_weight * orthogonality(subject.body)

    def adapt(self, subject: Subject) -> None:
        """Freeze the body and add adapters; alpha is 2 init_r unless given."""
        alpha = self.lora_alpha or 2 * self.init_r
        made = {"lora_alpha": alpha, "total_step": subject.config.steps}
        wrap(subject, self.name, "ADALORA", self.model_dump() | made)

    def after_step(self, subject: Subject, step: int) -> None:
        """Cut ranks. PEFT counts steps from 1 here, or the last cut would never come."""
        subject.body.base_model.update_and_allocate(step + 1)


def orthogonality(body: Any) -> Tensor:
    """The mean over matrices P of ||P P' - I||, Frobenius; P has a row a singular vector."""
    found = []
    for name, weight in body.named_parameters():
        if f"lora_A.{ADAPTER}" in name or f"lora_B.{ADAPTER}" in name:
            product = weight @ weight.T if "lora_A" in name else weight.T @ weight
            found.append(torch.linalg.norm(product - torch.eye(len(product)).to(product)))
    return torch.stack(found).mean()
