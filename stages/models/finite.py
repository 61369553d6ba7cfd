"""Which tensor is not finite."""

from collections.abc import Iterable

import torch
from torch import Tensor


def first_wrong(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first tensor with a NaN or an infinity, as `name (how many of its values)`, or None."""
    for name, tensor in named:
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            return f"{name} ({wrong} of {tensor.numel()} values)"
    return None
