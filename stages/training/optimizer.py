"""AdamW in two groups, and the learning rate as a function of the step."""

from collections.abc import Iterator

import torch
from torch import nn


def make_optimizer(
    trainee: nn.Module, learning_rate: float, head_learning_rate: float | None, weight_decay: float
) -> torch.optim.AdamW:
    """Weight decay for matrices only: biases and norms are left out. A head has its own rate."""

    def chosen(head: bool, matrix: bool) -> list[nn.Parameter]:
        return [
            parameter
            for name, parameter in trainee.named_parameters()
            if parameter.requires_grad
            and name.startswith("head.") == head
            and (parameter.ndim > 1) == matrix
        ]

    def groups() -> Iterator[dict[str, object]]:
        for head, rate in ((False, learning_rate), (True, head_learning_rate or 0.0)):
            for matrix, decay in ((True, weight_decay), (False, 0.0)):
                parameters = chosen(head, matrix)
                if parameters:
                    yield {
                        "params": parameters,
                        "lr": rate,
                        "peak_lr": rate,
                        "weight_decay": decay,
                    }

    return torch.optim.AdamW(list(groups()), fused=True)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """What the peak learning rate is multiplied by: up over `warmup` of `steps`, then down to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return (steps - step) / max(1, steps - rise)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
