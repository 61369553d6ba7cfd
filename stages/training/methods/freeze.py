"""Freezing the lower part of a model (arXiv 2501.13453)."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from stages.errors import UserError
from stages.models.depth import is_embedding, layer_of
from stages.training.methods.method import Fit, Method
from stages.training.subject import Subject


class Freeze(Method):
    """`layers`: how many are frozen, from below, of a seq2seq model those of encoder and decoder;
    `embeddings`: whether these are, too. Where the vocabulary head is tied to the embeddings it is
    frozen with them."""

    name: ClassVar[str] = "freeze"
    layers: Annotated[int, Field(ge=0)]
    embeddings: bool = True

    @model_validator(mode="after")
    def _something_is_frozen(self) -> Self:
        if not self.layers and not self.embeddings:
            raise ValueError("layers = 0: freezes nothing, without embeddings: give 1 or more")
        return self

    def misfit(self, fit: Fit) -> str | None:
        return None if fit.layers is None else self._over(fit.layers)

    def shape(self, subject: Subject) -> None:
        """Raises UserError where the model has fewer layers, or where nothing is left to train."""
        named = list(subject.body.named_parameters())
        depths = {layer for name, _ in named if (layer := layer_of(name)) is not None}
        where = f"runs.{subject.recipe.name}.methods.freeze.layers = {self.layers}"
        if over := self._over(len(depths)):
            raise UserError(f"{where}: {over}")
        for name, parameter in named:
            if self._holds(name):
                parameter.requires_grad_(False)
        if not subject.heads() and not any(weight.requires_grad for _, weight in named):
            raise UserError(f"{where}: nothing is left to train: give fewer layers")

    def _over(self, layers: int) -> str | None:
        """What is said where the model has fewer."""
        too_many = self.layers > layers
        return f"the model has {layers} layers: give {layers} or less" if too_many else None

    def _holds(self, name: str) -> bool:
        layer = layer_of(name)
        if layer is None:
            return self.embeddings and is_embedding(name)
        return layer < self.layers
