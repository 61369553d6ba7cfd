"""params.yaml, section `compare`: how records become claims, and when a run is good enough."""

from typing import Annotated

from pydantic import Field

from stages.config.reading import Name, Names, Section, section

Margin = Annotated[float, Field(gt=0, le=100)]


class GateConfig(Section):
    margin: Annotated[float, Field(gt=0, lt=1)]
    text_margin: Margin
    margins: dict[Name, Margin]
    minimum_gain: Annotated[float, Field(ge=-100, le=100)] | None
    confidence: Annotated[float, Field(gt=0.5, lt=1)]


class CompareConfig(Section):
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    ensembles: dict[Name, Names]
    """Runs by the name of the ensemble."""
    gate: GateConfig


def read_compare() -> CompareConfig:
    return section(CompareConfig, "compare")
