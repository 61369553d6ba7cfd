"""L2-SP: the weights are held near where they started (Li et al. 2018, arXiv 1802.01483)."""

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from stages.config.kinds import WITH_HEAD
from stages.training.displacement import Displacement, heads, summed
from stages.training.methods.displaced import misfit_of_displacement
from stages.training.methods.method import Fit, Method
from stages.training.objective import Penalty
from stages.training.subject import Subject


class L2SP(Method):
    """alpha/2 ||w - w0||^2 of the body, beta/2 ||v||^2 of new heads v (section 3.2, equation 3).

    All weights count, biases and norms too. AdamW's weight decay is another thing: it pulls to
    zero, beside the gradient, and stays what the run says.
    """

    name: ClassVar[str] = "l2-sp"
    needs_whole: ClassVar[bool] = True
    alpha: Annotated[float, Field(gt=0)]
    beta: Annotated[float, Field(ge=0)] = 0.0

    def misfit(self, fit: Fit) -> str | None:
        if self.beta and not any(kind in WITH_HEAD for kind in fit.targets.values()):
            return "beta is for a new head, and no target of the case has one: leave beta out"
        return misfit_of_displacement(fit)

    def penalty(self, subject: Subject) -> Penalty:
        displacement = Displacement(subject)
        new = heads(subject) if self.beta else []

        def penalty() -> Tensor:
            moved = [self.alpha / 2 * delta.square().sum() for delta in displacement().values()]
            grown = [self.beta / 2 * weight.square().sum() for weight in new]
            return summed(subject, [*moved, *grown])

        return penalty
