"""Weights that FSDP2 (torch's fully_shard) keeps in parts, one a process, made whole.

Every process calls these alike: the parts are sent around.
"""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def part_again(module: nn.Module) -> None:
    """What lies outside of the layers, such as embeddings, FSDP leaves whole after a forward pass:
    until this, or a backward pass, these are other tensors than the ones it trains and saves."""
    for child in module.modules():
        if isinstance(child, FSDPModule):
            child.reshard()


def whole(weight: Tensor) -> Tensor:
    """All of a weight, detached."""
    detached = weight.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


@torch.no_grad()
def fill(weight: Tensor, values: Tensor) -> None:
    """Give a weight the `values` of all of it."""
    if isinstance(weight, DTensor):
        moved = values.to(weight.device, weight.dtype)
        values = distribute_tensor(moved, weight.device_mesh, weight.placements)
    weight.copy_(values)


def make_whole(module: nn.Module) -> None:
    """Let the module have its own weights again, on the CPU, to be saved; it trains no more."""
    part_again(module)
    made: dict[int, nn.Parameter] = {}
    for child in module.modules():
        for name, weight in list(child.named_parameters(recurse=False)):
            if id(weight) not in made:
                made[id(weight)] = nn.Parameter(whole(weight).cpu(), weight.requires_grad)
            setattr(child, name, made[id(weight)])
