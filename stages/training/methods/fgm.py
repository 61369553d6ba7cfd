"""Adversarial training by the fast gradient method (Miyato et al. 2017, arXiv 1605.07725)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.training.methods.method import Fit, Method
from stages.training.objective import Batch, Term
from stages.training.subject import Subject


class Fgm(Method):
    """weight * the loss of each text moved by epsilon where its loss rises most (equation 5).

    `epsilon`: the length of the move, over all token embeddings of a text; they are taken as the
    model has them, not normalised first.
    """

    name: ClassVar[str] = "fgm"
    needs_whole: ClassVar[bool] = True
    epsilon: Annotated[float, Field(gt=0)]
    weight: Annotated[float, Field(gt=0)] = 1.0

    def misfit(self, fit: Fit) -> str | None:
        if fit.model == "seq2seq":
            return (
                "its encoder and decoder share embeddings, which one move cannot tell apart; "
                "dropout would fit"
            )
        return None

    def term(self, subject: Subject) -> Term:
        def term(batch: Batch) -> Tensor:
            embeddings: nn.Module = subject.body.get_input_embeddings()
            moves = iter(adversarial(batch, embeddings, self.epsilon))
            with replaced(embeddings, lambda output: output + next(moves)):
                losses = batch.stream.trainee(batch.stream.rows, batch.indices).losses
            return self.weight * batch.mean(losses)

        return term


def adversarial(batch: Batch, embeddings: nn.Module, epsilon: float) -> list[Tensor]:
    """For each call of the embedding layer, what is to be added to its output [texts, length,
    hidden]: epsilon g / ||g||, g being the loss's gradient there and ||g|| its norm over a text.

    Padding has no gradient, and does not move.
    """
    seen: list[Tensor] = []

    def watch(output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    with replaced(embeddings, watch):
        losses = batch.stream.trainee(batch.stream.rows, batch.indices).losses
    return [epsilon * _unit(gradient) for gradient in torch.autograd.grad(losses.sum(), seen)]


def _unit(gradient: Tensor) -> Tensor:
    """[texts, length, hidden], each text's scaled to length 1, or left where it is 0."""
    norm: Tensor = torch.linalg.vector_norm(gradient.float(), dim=(1, 2), keepdim=True)
    return (gradient / norm.clamp_min(torch.finfo(norm.dtype).tiny)).to(gradient.dtype)


@contextmanager
def replaced(layer: nn.Module, output: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it, the layer's output goes through `output`."""
    handle = layer.register_forward_hook(lambda *call: output(call[-1]))
    try:
        yield
    finally:
        handle.remove()
