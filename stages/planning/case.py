"""A case and a run, with what is known of their model and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.config.cases import CaseConfig
from stages.config.runs import RunConfig
from stages.config.variants import Variant
from stages.planning.shape import Shape
from stages.planning.texts import Texts


@dataclass(frozen=True)
class Recipe:
    """A run, of a case whose tasks' texts are known."""

    name: str
    config: RunConfig
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Case:
    """`texts`: by task, targets and retain tasks. `shape`: of its model."""

    name: str
    config: CaseConfig
    shape: Shape
    texts: Mapping[str, Texts]

    @property
    def model(self) -> str:
        return "causal" if self.shape.causal else "encoder"
