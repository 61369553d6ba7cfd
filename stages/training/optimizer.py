"""AdamW in groups: what decays, what is a head, how deep a layer lies."""

import re
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from stages.models.depth import is_embedding, layer_of

HEAD = re.compile(r"(trainees\.\d+\.)?head\.")


def make_optimizer(
    trainee: nn.Module,
    learning_rate: float,
    head_learning_rate: float | None,
    weight_decay: float,
    layer_decay: float = 1.0,
) -> torch.optim.AdamW:
    """Weight decay for matrices only: biases and norms are left out. A head has its own rate.

    `layer_decay`: what the rate is multiplied by from each layer to the one below, the embeddings
    lying below all (Howard and Ruder 2018, arXiv 1801.06146, section 3.2).
    """
    named = [(name, p) for name, p in trainee.named_parameters() if p.requires_grad]
    top = max((layer_of(name) or 0 for name, _ in named), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        decay = weight_decay if parameter.ndim > 1 else 0.0
        rate = learning_rate * layer_decay ** _below(name, top)
        if HEAD.match(name):
            # None where no target has a head; a replayed one may.
            rate = learning_rate if head_learning_rate is None else head_learning_rate
        groups[rate, decay].append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, fused=True)


def _below(name: str, top: int) -> int:
    """How many layers lie above that of a parameter."""
    layer = layer_of(name)
    if layer is not None:
        return top - layer
    return top + 1 if is_embedding(name) else 0


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
