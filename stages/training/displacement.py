"""How far the body's weights have moved from the base, whatever it is that trains."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stages.training.encoder import EncoderTrainee
from stages.training.subject import Subject


class Displacement:
    """The body's weights as they are when this is made, and how far training has moved them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        named = dict(subject.body.named_parameters())
        self.names = {parameter: name for name, parameter in named.items()}
        self._start = {parameter: parameter.detach().clone() for parameter in named.values()}

    def __call__(self) -> dict[str, Tensor]:
        """w - w0 of each weight that moves, by its name in the base; differentiable."""
        # Under an adapter most weights stay, and their copies would fill memory for nothing.
        self._start = {p: start for p, start in self._start.items() if p.requires_grad}
        found: dict[str, Tensor] = {}
        for parameter, delta in moving(self._subject.body):
            if delta is None:
                delta = parameter - self._start[parameter]
            found[self.names[parameter]] = delta
        return found


def moving(body: Any) -> Iterator[tuple[nn.Parameter, Tensor | None]]:
    """Each weight of the body that training moves, and what is added to it.

    None is added to a weight that trains itself. Under LoRA (Hu et al. 2021, arXiv 2106.09685,
    section 4.1) the base weight is frozen, and what is added is scaling * B A.
    """
    layers = _lora_layers(body)
    pairs = {id(parameter) for layer in layers for parameter in _pair(layer)}
    for parameter in body.parameters():
        if parameter.requires_grad and id(parameter) not in pairs:
            yield parameter, None
    for layer in layers:
        for adapter in layer.active_adapters:
            yield layer.get_base_layer().weight, layer.get_delta_weight(adapter)


def matrices(subject: Subject) -> list[Tensor]:
    """The matrices that training moves, of body and heads, as they are applied; differentiable."""
    body = (
        parameter if delta is None else parameter + delta
        for parameter, delta in moving(subject.body)
    )
    return [weight for weight in (*body, *heads(subject)) if weight.ndim > 1]


def summed(subject: Subject, parts: Iterable[Tensor]) -> Tensor:
    """The sum of scalars; 0 where nothing is left to train but what they do not count."""
    return torch.stack([torch.zeros((), device=subject.device), *parts]).sum()


def heads(subject: Subject) -> list[nn.Parameter]:
    """Weights and biases of the targets' heads, which are new: the base has none."""
    trainees = (stream.trainee for stream in subject.targets)
    layers = (trainee.head for trainee in trainees if isinstance(trainee, EncoderTrainee))
    return [parameter for layer in layers if layer for parameter in layer.parameters()]


def _lora_layers(body: Any) -> list[Any]:
    if not hasattr(body, "peft_config"):
        return []
    from peft.tuners.lora import LoraLayer  # seconds to import, and here it was already

    return [module for module in body.modules() if isinstance(module, LoraLayer)]


def _pair(layer: Any) -> Iterator[nn.Parameter]:
    for matrices in (layer.lora_A, layer.lora_B):
        yield from matrices.parameters()
