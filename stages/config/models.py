"""params.yaml, section `models`."""

from typing import Literal, Self

from pydantic import model_validator

from stages.config.pin import PinnedModel
from stages.config.reading import section


class ModelConfig(PinnedModel):
    kind: Literal["encoder", "causal", "seq2seq"]
    pooling: Literal["mean", "cls"] | None = None
    gguf: str | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "encoder" and self.pooling is None:
            raise ValueError("pooling: missing: an encoder needs it: mean or cls")
        if self.kind != "encoder" and self.pooling is not None:
            raise ValueError(f"pooling = {self.pooling!r}: applies to an encoder only")
        if self.gguf is not None and (self.kind != "causal" or not self.source.startswith("pypi:")):
            raise ValueError(
                f"gguf = {self.gguf!r}: is read for a causal model from a pypi: archive only"
            )
        return self


def read_model(name: str) -> ModelConfig:
    return section(ModelConfig, f"models.{name}")
