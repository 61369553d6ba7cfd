"""A variant of a run, from its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stages.config.variants import Variant
from stages.models.loading import Loaded, load
from stages.models.probe import Probe
from stages.variants.body import body_of
from stages.variants.interpolate import lines, soup, wise
from stages.variants.prune import prune
from stages.variants.quantise import Int8Linear, check_processor, quantise


@dataclass(frozen=True)
class Origin:
    """What the variants of a run are made of.

    `base`: the folder of the base's files. `tuned`: that of the run, with a folder a seed.
    `heads`: what the base answers labelled targets with.
    """

    manifest: dict[str, Any]
    base: Path
    tuned: Path
    seeds: Sequence[int]
    heads: Mapping[str, Probe] = field(default_factory=dict)

    def model(self, seed: int, step: str = "") -> Loaded:
        """What the run ended with, or had at a step that it saved."""
        return load(self.manifest, self.base, self.tuned / f"seed-{seed}" / step)

    def untuned(self) -> Loaded:
        return load(self.manifest, self.base)


def check_kinds(variants: Sequence[Variant]) -> None:
    """Raises UserError where this machine cannot make one of them: before hours of scoring."""
    if any(variant.kind == "int8" for variant in variants):
        check_processor()


def made(variant: Variant, origin: Origin, seed: int) -> Loaded:
    """On the CPU, in evaluation mode. `seed`: of the run; soup is of all of them.

    Raises UserError where the model cannot have this variant.
    """
    if variant.kind == "step":
        return origin.model(seed, variant.name)
    if variant.kind == "soup":
        return soup([partial(origin.model, one) for one in origin.seeds])
    tuned = origin.model(seed)
    if variant.kind == "wise":
        return wise(origin.untuned(), tuned, variant.number, origin.heads)
    if variant.kind == "lines":
        return lines(origin.untuned(), tuned, variant.number)
    return prune(tuned, variant.number) if variant.kind == "prune" else quantise(tuned)


def same_as(variant: Variant) -> str | None:
    """Whose records are those of the variant, since it is the same model: base, final or None."""
    if variant.kind == "wise" and variant.number == 0:
        return "base"
    return "final" if variant.kind in ("wise", "lines") and variant.number == 1 else None


def size_of(loaded: Loaded) -> int:
    """Bytes of the weights, in fp32 or 8 bits, without those in fp32 that are 0: a file of a pruned
    model may leave them out, but has to hold the places of the others, which are not counted."""
    body = body_of(loaded)
    quantised: int = sum(layer.bytes for layer in body.modules() if isinstance(layer, Int8Linear))
    kept: int = sum(int(torch.count_nonzero(one)) * one.element_size() for one in body.parameters())
    return kept + quantised
