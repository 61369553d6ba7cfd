"""params.yaml, section `compare`: how records become claims."""

from typing import Annotated

from pydantic import Field

from stages.config.reading import Section, section


class CompareConfig(Section):
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]


def read_compare() -> CompareConfig:
    return section(CompareConfig, "compare")
