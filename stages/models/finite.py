"""Which tensor is not finite."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def first_wrong(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first tensor with a NaN or an infinity, as `name (how many of its values)`, or None."""
    for name, tensor in named:
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            return f"{name} ({wrong} of {tensor.numel()} values)"
    return None


def first_wrong_output(model: nn.Module, call: Callable[[], object]) -> str | None:
    """As `first_wrong`, of what the modules of `model` put out, in turn, while it is called."""
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(_: nn.Module, __: object, output: object) -> None:
            parts = output if isinstance(output, tuple) else (output,)
            wrong = first_wrong((name, part) for part in parts if isinstance(part, Tensor))
            if wrong:
                found.append(wrong)

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in model.named_modules() if name]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return next(iter(found), None)


def not_finite(what: str, origin: str | None) -> str:
    """The line of an error of scoring. `origin`: the tensor that it came from, where known."""
    where = f", from {origin}" if origin else ""
    return f"{what} not finite{where}; set evaluation.precision to fp32, or choose another model"
