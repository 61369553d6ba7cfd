"""Self-training: a tuned model's own labels of rows that have none (Lee 2013, ICML workshop WREPL),
of those that it is sure of (the threshold of FixMatch, Sohn et al. 2020, arXiv 2001.07685)."""

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from stages.config.runs import TUNED, read_run
from stages.errors import UserError
from stages.tasks.examples import Examples
from stages.training.methods.labelled import misfit_of_labels
from stages.training.methods.method import Fit, Method
from stages.training.stream import Stream
from stages.training.subject import Subject
from stages.training.teacher import load_teacher, probabilities


class SelfTraining(Method):
    """`fraction` r: the share of such rows among all rows, r/(1-r) of them a target row.

    The train rows that the run's draw left out are labelled by the run's `teacher`, of the same
    draw and seed; a row is kept where the likeliest label's probability is `threshold` or more.
    Their own labels are used for one thing, to say how many the teacher got right.
    """

    name: ClassVar[str] = "self-training"
    threshold: Annotated[float, Field(gt=0, lt=1)]
    fraction: Annotated[float, Field(gt=0, lt=1)]

    def misfit(self, fit: Fit) -> str | None:
        if reason := misfit_of_labels(fit):
            return reason
        if fit.run.draw is None:
            return "labels the rows that a draw leaves out: give the run a draw"
        if not fit.run.teacher.startswith(TUNED):
            return "needs a teacher: set the run's teacher to models/tuned/<run>"
        if fit.run.before:
            return f"{fit.run.before}, where the run starts, knows nothing of what it learns"
        name = fit.run.teacher.removeprefix(TUNED)
        try:
            teacher = read_run(name)
        except UserError:
            return None  # that it is none is said elsewhere
        if (teacher.case, teacher.draw) != (fit.run.case, fit.run.draw):
            return f"its teacher {name} has learned other rows: give both one case and one draw"
        if missing := sorted(set(fit.run.seeds) - set(teacher.seeds)):
            return f"its teacher {name} has no seed {missing[0]}, and so no draw of that seed"
        return None

    def streams(self, subject: Subject) -> list[Stream]:
        """Raises UserError where the teacher is sure of no row."""
        ratio = self.fraction / (1 - self.fraction)
        return [
            Stream(
                f"{self.name}: {stream.task}",
                stream.trainee,
                subject.tokenise(self._labelled(subject, examples)),
                ratio * stream.share,
            )
            for stream, examples in zip(subject.targets, subject.recipe.unlabelled, strict=True)
        ]

    def _labelled(self, subject: Subject, examples: Examples) -> Examples:
        config, task = subject.config, examples.task
        folder = Path(config.teacher)
        sure = probabilities(subject, *load_teacher(folder, subject, examples, subject.seed))
        kept = sure.max(axis=1) >= self.threshold
        if not kept.any():
            raise UserError(
                f"runs.{subject.recipe.name}.methods.{self.name}.threshold = {self.threshold}: "
                f"{folder} is as sure of none of the {len(kept)} unlabelled rows of {task.name}, "
                f"and of one {sure.max():.3f}: lower it, or train the teacher longer"
            )
        answers = np.asarray(task.labels)[sure.argmax(axis=1)][kept]
        rows = examples.rows[kept].reset_index(drop=True)
        found = {
            "unlabelled": len(kept),
            "kept": len(rows),
            "right": int((answers == rows["label"].to_numpy()).sum()),
        }
        subject.notes.setdefault(self.name, {})[task.name] = found
        return Examples(task, rows.assign(label=answers))
