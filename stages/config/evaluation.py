"""params.yaml, section `evaluation`: how models are scored."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stages.config.reading import Names, Section, section

Condition = Annotated[str, StringConstraints(pattern=r"^(typos|case|words)-0\.[0-9]{1,2}$")]


class NoiseConfig(Section):
    tasks: Names | Literal["all"]
    conditions: Annotated[tuple[Condition, ...], Field(strict=False)]


class EvaluationConfig(Section):
    precision: Literal["auto", "fp32", "bf16"]
    batch_tokens: Annotated[int, Field(ge=16)]
    noise_repeats: Annotated[int, Field(ge=2, le=100)]
    noise: NoiseConfig


def read_evaluation() -> EvaluationConfig:
    return section(EvaluationConfig, "evaluation")
