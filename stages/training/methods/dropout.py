"""Dropout of the body, set for training (Srivastava et al. 2014, JMLR 15)."""

from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch.nn.modules.dropout import _DropoutNd

from stages.errors import UserError
from stages.training.methods.method import Method
from stages.training.subject import Subject


class Dropout(Method):
    """`p`: the share of values that each dropout of the body drops, that of attention included.
    An adapter's dropout is its own setting."""

    name: ClassVar[str] = "dropout"
    p: Annotated[float, Field(ge=0, lt=1)]

    def shape(self, subject: Subject) -> None:
        """Raises UserError where the model has no dropout anywhere."""
        if not set_dropout(subject.body, self.p):
            raise UserError(
                f"runs.{subject.recipe.name}.methods.dropout.p = {self.p}: a model of type "
                f"{subject.body.config.model_type!r} has no dropout: leave the method out"
            )


def set_dropout(body: Any, p: float) -> int:
    """Set all dropouts below `body`, and return how many there are: modules, and shares that
    transformers keeps as a number beside the attention that they are for."""
    found = 0
    for module in body.modules():
        if isinstance(module, _DropoutNd):
            module.p = p
            found += 1
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, p)
                found += 1
    return found
