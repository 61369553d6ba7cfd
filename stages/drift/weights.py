"""How far training moved the weights, layer by layer and module by module."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stages.models.expanded import LAYER, copies_of, name_in_base

_ITERATIONS = 50
STACK = re.compile(r"(encoder|decoder)\.")


def weight_drift(base: Any, tuned: Any) -> Iterator[dict[str, Any]]:
    """Rows of the drift table from two models of one architecture.

    measure `weight`: |w1 - w0| / |w0| (Frobenius) of all parameters of a module kind in a layer;
    `spectral`: the same in the largest singular value, of its matrices, the largest of them. A
    low-rank change is small in the first and not in the second. `layer` is -1 outside the layers.
    Parameters that one of the two lacks are left out.
    """
    after = dict(_by_base_name(tuned))
    stacks = {found[1] for name, _ in base.named_parameters() if (found := STACK.search(name))}
    moved: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}
    for name, before in base.named_parameters():
        if name not in after:
            continue
        pair = (before.detach().float().cpu(), after[name].detach().float().cpu())
        place = place_of(name, stacks=len(stacks) > 1)
        moved.setdefault(place, []).append(pair)
    for (layer, module), pairs in sorted(moved.items()):
        told = {"layer": layer, "module": module}
        change = sum(float((new - old).square().sum()) for old, new in pairs)
        size = sum(float(old.square().sum()) for old, _ in pairs)
        if size > 0:
            yield {**told, "measure": "weight", "value": (change / size) ** 0.5}
        spectral = [
            spectral_norm(new - old) / spectral_norm(old)
            for old, new in pairs
            if old.ndim == 2 and bool(old.any())
        ]
        if spectral:
            yield {**told, "measure": "spectral", "value": max(spectral)}


def _by_base_name(tuned: Any) -> Iterator[tuple[str, Tensor]]:
    copies = copies_of(tuned)
    for name, parameter in tuned.named_parameters():
        # PEFT's wrapper, where an adapter is not merged, puts a word before each name.
        own = name_in_base(name.removeprefix("base_model."), copies)
        if own is not None:
            yield own, parameter


def place_of(name: str, *, stacks: bool = False) -> tuple[int, str]:
    """A parameter's layer, -1 outside of them, and its module's name in the layer; in one of two
    `stacks`, encoder and decoder, whose layers count alike, that one's name before it."""
    module = name.removesuffix(".weight").removesuffix(".bias")
    found = LAYER.search(module)
    if not found:
        return -1, module
    of = STACK.search(module[: found.start()]) if stacks else None
    return int(found[1]), f"{of[0] if of else ''}{module[found.end() :]}"


def spectral_norm(matrix: Tensor) -> float:
    """The largest singular value of a matrix, by power iteration from a fixed start."""
    if not bool(matrix.any()):
        return 0.0
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(matrix.shape[1], generator=generator)
    size = 0.0
    for _ in range(_ITERATIONS):
        vector = vector / vector.norm()
        image = matrix @ vector
        size = float(image.norm())
        if size == 0:
            return 0.0
        vector = matrix.T @ image
    return size
