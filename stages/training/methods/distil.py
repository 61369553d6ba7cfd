"""Distillation: learn what a tuned model, the run's `teacher`, says of the target's rows (Hinton et
al. 2015, arXiv 1503.02531)."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from stages.config.kinds import HEADS
from stages.config.runs import TUNED
from stages.training.methods.masks import misfit_of_masks
from stages.training.methods.method import Fit, Method
from stages.training.objective import Batch, Term
from stages.training.subject import Subject
from stages.training.teacher import Teacher, divergence, load_teacher, teach

NO_CLASSES = ("span", "labels", "value")
"""What heads give that is no softmax over classes: see HEADS."""


class Distil(Method):
    """`weight` times the divergence from the teacher at `temperature` is added to the loss on the
    labels. The teacher may be larger than the student; of its seeds the first one teaches."""

    name: ClassVar[str] = "distil"
    weight: Annotated[float, Field(gt=0)]
    temperature: Annotated[float, Field(gt=0)]

    def misfit(self, fit: Fit) -> str | None:
        if not fit.run.teacher.startswith(TUNED):
            return "needs a teacher: set the run's teacher to models/tuned/<run>"
        if fit.run.before:
            return (
                f"{fit.run.before}, where the run starts, knows nothing of what it learns; lwf, "
                "which stays near the start, would fit"
            )
        if "retrieval" in fit.targets.values():
            return "a retrieval target has no labels to be unsure of; classification would fit"
        others = [kind for kind in fit.targets.values() if HEADS.get(kind) in NO_CLASSES]
        if others:
            return f"a {others[0]} target has no classes to be unsure of; classification would fit"
        if "augment" in fit.run.methods:
            return "the teacher reads the target's rows as they are: leave augment out"
        return misfit_of_masks(fit)

    def term(self, subject: Subject) -> Term:
        teachers: dict[str, Teacher] = {}
        for stream, examples in zip(subject.targets, subject.recipe.train, strict=True):
            trainee, rows = load_teacher(Path(subject.config.teacher), subject, examples)
            teachers[stream.task] = teach(subject, trainee, rows, stream)

        def term(batch: Batch) -> Tensor:
            teacher, output = teachers[batch.stream.task], batch.output
            taught = teacher.classify(teacher.of(batch))
            assert taught is not None
            assert output.logits is not None
            distance = divergence(*_of_both(taught, output.logits()), self.temperature)
            return self.weight * batch.mean(output.by_row(distance))

        return term


def _of_both(taught: Tensor, learned: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [n, classes or vocabulary], cut to what both have: models of one tokenizer may be
    padded to vocabularies of different sizes."""
    width = min(taught.shape[1], learned.shape[1])
    return taught[:, :width], learned[:, :width]
