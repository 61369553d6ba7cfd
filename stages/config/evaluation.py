"""params.yaml, section `evaluation`: how models are scored."""

from typing import Annotated, Literal

from pydantic import Field

from stages.config.reading import Section, section


class EvaluationConfig(Section):
    precision: Literal["auto", "fp32", "bf16"]
    batch_tokens: Annotated[int, Field(ge=16)]
    noise_repeats: Annotated[int, Field(ge=2, le=100)]


def read_evaluation() -> EvaluationConfig:
    return section(EvaluationConfig, "evaluation")
