"""The norm of the gradient, and a step that takes no more of it than it may."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip(parameters: Iterable[nn.Parameter], optimizer: torch.optim.AdamW, most: float) -> Tensor:
    """The norm of the gradient over all parameters []. Where it is more than `most`, the next step
    of the optimizer takes the gradient times `most` over the norm (Pascanu et al. 2013, arXiv
    1211.5063, algorithm 1): it is fused, and multiplies as it reads."""
    grads = [one.grad for one in parameters if one.grad is not None]
    norm = _norm(grads)
    optimizer.grad_scale = (norm / most).clamp(min=1.0)  # type: ignore[attr-defined]
    return norm


def _norm(grads: list[Tensor]) -> Tensor:
    """On a CPU torch adds up a norm's squares one by one, in fp32: slowly, and 28 million of them
    to 2 parts in 1000."""
    if all(one.device.type == "cpu" and one.dtype == torch.float32 for one in grads):
        flat = [one.flatten() for one in grads]
        return torch.stack([torch.dot(one, one) for one in flat]).sum().sqrt()
    return nn.utils.get_total_norm(grads)
