"""The `methods` of a run: which mitigations, with which settings. None is full fine-tuning."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from stages.config.reading import Section


class LoraSettings(Section):
    """Low-rank adaptation (Hu et al. 2021); the names are PEFT's LoraConfig's."""

    r: Annotated[int, Field(ge=1, le=1024)]
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Methods(Section):
    lora: LoraSettings | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_blank(cls, settings: Any) -> Any:
        if settings is None:
            raise ValueError("give its settings, or leave it out")
        return settings
