"""Label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7)."""

from typing import Annotated, ClassVar

from pydantic import Field

from stages.training.methods.labelled import misfit_of_labels
from stages.training.methods.method import Fit, Method
from stages.training.subject import Subject


class LabelSmoothing(Method):
    """`share` of each label goes to all classes alike, or to all tokens of the vocabulary.

    In the targets' training loss alone: validation and replayed rows keep their labels.
    """

    name: ClassVar[str] = "label-smoothing"
    share: Annotated[float, Field(gt=0, lt=1)]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_labels(fit) if fit.model == "encoder" else None

    def shape(self, subject: Subject) -> None:
        for stream in subject.targets:
            stream.trainee.smoothing = self.share
