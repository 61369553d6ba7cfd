"""params.yaml, section `models`."""

from typing import Literal

from stages.config.pin import Pin
from stages.config.reading import section


class ModelConfig(Pin):
    path: str = ""
    kind: Literal["encoder"]
    pooling: Literal["mean", "cls"] = "mean"


def read_model(name: str) -> ModelConfig:
    return section(ModelConfig, f"models.{name}")
