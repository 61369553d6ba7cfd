"""params.yaml, section `evaluation`: how models are scored."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.config.reading import Names, Section, section

CONDITION = re.compile(r"(typos|case|words)-(0\.[0-9]{1,2})")
"""What is done to a text, and to which share of its letters or words."""


def _condition(given: str) -> str:
    if not CONDITION.fullmatch(given):
        raise ValueError("give typos, case or words, and a share below 1, such as typos-0.1")
    return given


Condition = Annotated[str, AfterValidator(_condition)]


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
