"""L1 and L2: penalties on the size of the trained matrices (Tibshirani 1996; Krogh and Hertz 1991).

Part of the loss, and so scaled by AdamW like any gradient, which weight decay is not.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from stages.training.displacement import matrices, summed
from stages.training.methods.displaced import misfit_of_displacement
from stages.training.methods.method import Fit, Method
from stages.training.objective import Penalty
from stages.training.subject import Subject


class L1(Method):
    """strength * sum |w| over the matrices of body and heads; biases and norms are left out."""

    name: ClassVar[str] = "l1"
    needs_whole: ClassVar[bool] = True
    strength: Annotated[float, Field(gt=0)]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_displacement(fit)

    def penalty(self, subject: Subject) -> Penalty:
        return _summed(subject, lambda matrix: self.strength * matrix.abs().sum())


class L2(Method):
    """strength/2 * sum w^2 over the matrices of body and heads; biases and norms are left out."""

    name: ClassVar[str] = "l2"
    needs_whole: ClassVar[bool] = True
    strength: Annotated[float, Field(gt=0)]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_displacement(fit)

    def penalty(self, subject: Subject) -> Penalty:
        return _summed(subject, lambda matrix: self.strength / 2 * matrix.square().sum())


def _summed(subject: Subject, size: Callable[[Tensor], Tensor]) -> Penalty:
    return lambda: summed(subject, map(size, matrices(subject)))
