"""Linear layers in 8 bits."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.device import device
from stages.models.loading import Loaded
from stages.variants.body import linear_layers

LEVELS = 127


class Int8Linear(nn.Module):
    """A linear layer with weights of 8 bits, and inputs that become so on the way in.

    Dynamic quantisation: weights once, by the largest magnitude of each output's row; inputs at
    each call, by their range (7 bits of it: 8 overflow on processors without VNNI). Products are
    summed in 32 bits and scaled back to fp32; the bias stays in fp32.
    """

    weight = None
    """T5's layers look at a weight's dtype where there is one."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` [out, in] in fp32."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        weight = weight.detach().contiguous()
        largest = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to drop such tensors one day; constraints.txt pins it.
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            rounded = torch.quantize_per_channel(weight, largest / LEVELS, zeros, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(rounded, bias)
        rows = len(weight) * (4 if bias is None else 8)
        self.bytes = weight.numel() + rows
        """What its weights take, with a scale and a bias in fp32 a row."""

    def forward(self, given: Tensor) -> Tensor:
        product: Tensor = torch.ops.quantized.linear_dynamic(given, self._packed, True)
        return product


def quantise(loaded: Loaded) -> Loaded:
    """All linear layers but heads become Int8Linear, in place; the rest stays in fp32.

    Raises UserError, see check_processor.
    """
    check_processor()
    for parent, attribute, layer in linear_layers(loaded):
        # GPT-2's Conv1D has its weight the other way round.
        weight = layer.weight if isinstance(layer, nn.Linear) else layer.weight.t()
        bias = None if layer.bias is None else layer.bias.detach()
        setattr(parent, attribute, Int8Linear(weight, bias))
    return loaded


def check_processor() -> None:
    """Raises UserError on a device other than the CPU, or where torch has no such products."""
    if device().type != "cpu":
        raise UserError(f"int8: for a CPU, and the device is {device().type}: leave it out")
    if torch.backends.quantized.engine == "none":
        raise UserError("int8: torch has no products in 8 bits for this processor: leave it out")
