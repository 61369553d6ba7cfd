"""What a method is: its settings, and what it does to a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stages.config.reading import Section
from stages.config.runs import RunConfig
from stages.tasks.examples import Examples
from stages.training.objective import Penalty, Term
from stages.training.stream import Stream
from stages.training.subject import Subject


@dataclass(frozen=True)
class Fit:
    """What a method is to fit: the model's kind, and the kind of each target that the run learns,
    of each retain task, and of each target that `earlier` steps of its sequence have learned.

    `retain` is empty where the run's pool has none; `layers`: the model's, None where they are not
    known yet.
    """

    run: RunConfig
    model: str
    targets: Mapping[str, str]
    retain: Mapping[str, str]
    earlier: Mapping[str, str] = field(default_factory=dict)
    layers: int | None = None


class Method(Section):
    """Base of the methods. A method overrides what it needs; the rest does nothing.

    Called in this order, once a seed; what belongs to a step derives from (seed, step).
    """

    name: ClassVar[str]
    """Its key under `methods` of a run."""
    resumable: ClassVar[bool] = True
    """Whether an interrupted run goes on from a checkpoint; False for a method with a state."""
    needs_whole: ClassVar[bool] = False
    """Whether it looks at whole weights, or takes gradients of its own: FSDP has neither."""
    in_batch: ClassVar[bool] = False
    """Whether what `term` takes of a row depends on the rows beside it."""

    def misfit(self, fit: Fit) -> str | None:
        """Why this cannot be applied, and what would fit; None where it can."""
        return None

    def sees(self) -> tuple[str, ...]:
        """The retain tasks and earlier targets whose train split it uses: no longer unseen."""
        return ()

    def grows(self) -> str | None:
        """Why the tuned model has weights that its base lacks; None where it has none."""
        return None

    def unmerged(self) -> str | None:
        """Why a step of a sequence cannot start from the tuned model; None where it can."""
        return None

    def rewrite(self, examples: Examples, seed: int) -> Examples:
        """The train rows of a target, before they are tokenised."""
        return examples

    def streams(self, subject: Subject) -> list[Stream]:
        """More to learn from, beside the targets. The model is still what the run starts from."""
        return []

    def resample(self, stream: Stream) -> Stream:
        """A stream of a target, drawn from in another way."""
        return stream

    def term(self, subject: Subject) -> Term | None:
        """What is added to the loss of a target's batch. The model is still what the run starts
        from."""
        return None

    def penalty(self, subject: Subject) -> Penalty | None:
        """What is added to a step from the weights. The model is still what the run starts from."""
        return None

    def shape(self, subject: Subject) -> None:
        """Change the model itself: freeze it, grow it, set its dropout."""

    def adapt(self, subject: Subject) -> None:
        """Put an adapter around the model. Comes after all other changes of it."""

    def after_step(self, subject: Subject, step: int) -> None:
        """After the optimizer's step `step` (from 0), before gradients are cleared."""
