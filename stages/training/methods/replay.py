"""Replay: rows of retain tasks, or of earlier targets, among those of the target (Robins 1995;
Ibrahim et al. 2024, arXiv 2403.08763, section 4)."""

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from stages.config.reading import Names
from stages.errors import UserError
from stages.training.methods.method import Fit, Method
from stages.training.methods.retained import misfit_of_retained
from stages.training.stream import Stream
from stages.training.subject import Subject


class Replay(Method):
    """`fraction` r: the share of replayed rows among all rows, r/(1-r) new ones a target row.

    Each of `tasks` is learned by its own loss, and all alike. The head of an earlier target goes on
    learning.
    """

    name: ClassVar[str] = "replay"
    fraction: Annotated[float, Field(gt=0, lt=1)]
    tasks: Names
    repeats: Annotated[int, Field(ge=1)] = 1

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_retained(self.tasks, fit)

    def sees(self) -> tuple[str, ...]:
        return self.tasks

    def streams(self, subject: Subject) -> list[Stream]:
        """Raises UserError where more rows would be drawn than there are, `repeats` times over, and
        where none would be."""
        share = self.fraction / (1 - self.fraction) / len(self.tasks)
        return [self._stream(subject, task, share) for task in sorted(self.tasks)]

    def _stream(self, subject: Subject, task: str, share: float) -> Stream:
        config = subject.config
        stream = subject.learn(subject.recipe.old[task], share, "probe")
        if stream.trainee.in_batch:
            # A row alone has no negatives to be told from.
            stream = replace(stream, chunk=config.batch_size)
        needed, there = stream.drawn(config.batch_size, config.steps), len(stream.rows)
        if not needed:
            raise UserError(
                f"runs.{subject.recipe.name}.methods.replay.fraction = {self.fraction}: no row of "
                f"{task} would come in {config.steps} steps; raise it, or steps or batch_size"
            )
        if needed > there * self.repeats:
            raise UserError(
                f"runs.{subject.recipe.name}.methods.replay.repeats = {self.repeats}: {needed} "
                f"rows of {task} are wanted and its train split has {there}; allow more repeats, "
                "lower fraction, or raise the task's train in params.yaml"
            )
        return stream
