"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) that keeps little for its gradient."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NAMES = ("variance_epsilon", "eps")
"""Under which a layer of transformers has its epsilon."""


class _Normalised(torch.autograd.Function):
    """x -> weight * x / rms(x), its gradient from x and 1 / rms(x) alone.

    As written out in torch, autograd keeps the normalised x as well, in fp32, twice.
    """

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype
    ) -> Tensor:
        """`given` [..., width] and `weight` [width] -> [..., width] of `dtype`; computed in fp32,
        rounded to the dtype of `given` before the weight is multiplied in."""
        exact = given.float()
        scale = exact.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(given, weight, scale)
        normal: Tensor = (exact * scale).to(given.dtype)
        return (normal * weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        given, weight, scale = ctx.saved_tensors
        grad = grad.float()
        normal = given.float() * scale
        both = grad * normal
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = both.reshape(-1, len(weight)).sum(0).to(weight.dtype)
        # d x_j / rms(x): x is held at its length, so what points along it is taken out.
        along = (both @ weight.float()).div_(len(weight)).unsqueeze(-1)
        of_given = torch.mul(grad, weight).addcmul_(normal, along, value=-1).mul_(scale)
        return of_given.to(given.dtype), of_weight, None, None


class RMSNorm(nn.Module):
    """Its output has the dtype of products where that is another under autocast: every layer that
    reads it would round it anew, and keep what it rounded."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, given: Tensor) -> Tensor:
        device, dtype = given.device.type, torch.promote_types(given.dtype, self.weight.dtype)
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        found: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
            given, self.weight, self.epsilon, dtype
        )
        return found


def normalise_leanly(body: nn.Module) -> None:
    """Put `RMSNorm` in the place of each layer that does the same; others have their own formula
    (Gemma adds 1 to the weight), and stay."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if lean := _lean(child):
                setattr(module, name, lean)


@torch.no_grad()
def _lean(layer: nn.Module) -> RMSNorm | None:
    if not type(layer).__name__.endswith("RMSNorm"):
        return None
    weights = dict(layer.named_parameters())
    epsilon = next((getattr(layer, name) for name in NAMES if hasattr(layer, name)), None)
    if set(weights) != {"weight"} or epsilon is None:
        return None
    lean = RMSNorm(weights["weight"], epsilon)
    given = torch.linspace(-2.0, 3.0, 2 * len(lean.weight), device=lean.weight.device)
    given = given.view(2, -1).to(lean.weight.dtype)
    return lean if torch.allclose(layer(given), lean(given), rtol=1e-5, atol=1e-6) else None
