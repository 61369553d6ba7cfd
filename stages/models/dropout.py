"""Dropout whose draws are cheap on a CPU: 16 bits for each value, where torch takes 64."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SHARES = 2**16
"""Of which a rate is a whole number."""


def kept(like: Tensor, rate: float) -> Tensor:
    """Which values of a tensor of this shape and device are not dropped, drawn anew."""
    values = like.numel()
    draws = torch.empty(-(-values // 4), dtype=torch.int64, device=like.device)
    draws.random_(-(2**63), None)  # every bit is random
    least = _dropped(rate) - SHARES // 2
    return (draws.view(torch.int16)[:values] >= least).view(like.shape)


def factors(keep: Tensor, rate: float, dtype: torch.dtype) -> Tensor:
    """0 for what is dropped, for the others what leaves the expectation as it was."""
    return keep.to(dtype).mul_(SHARES / (SHARES - _dropped(rate)))


def _dropped(rate: float) -> int:
    return min(round(rate * SHARES), SHARES - 1)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, rate: float) -> Tensor:
        keep = kept(given, rate)
        ctx.save_for_backward(keep)
        ctx.rate = rate
        return given * factors(keep, rate, given.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (keep,) = ctx.saved_tensors
        return grad * factors(keep, ctx.rate, grad.dtype), None


class Dropout(nn.Dropout):
    def forward(self, given: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1:
            return super().forward(given)
        found: Tensor = _Dropped.apply(given, self.p)  # type: ignore[no-untyped-call]
        return found


def draw_cheaply(body: nn.Module) -> None:
    """Make each of its dropouts one of these; rates and modes stay."""
    for module in body.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
