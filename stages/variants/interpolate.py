"""Between a base and what a run made of it: WiSE-FT, LiNeS, and the mean of a run's seeds.

Of an adapter the weights are those into which it is merged, so that moving along the line is the
same as scaling the adapter's change.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from stages.errors import UserError
from stages.models.depth import is_embedding, layer_of
from stages.models.loading import EncoderModel, Loaded
from stages.models.probe import Probe
from stages.variants.body import weights_of

PARTS = ("weight", "bias")
"""Of a head."""


@torch.no_grad()
def wise(base: Loaded, tuned: Loaded, alpha: float, heads: Mapping[str, Probe]) -> Loaded:
    """theta0 + alpha (theta1 - theta0) of all weights (Wortsman et al. 2022, arXiv 2109.01903,
    equation 1), in `tuned`'s own memory.

    `heads`: what the base answers each labelled target with, its probe: the other end of the line
    on which a trained head lies, so that alpha 0 is the base as it was scored, and 1 the run. Any
    other head stays as it was trained.
    """
    before = weights_of(base, f"wise-{alpha:g}")
    for name, weight in weights_of(tuned, f"wise-{alpha:g}").items():
        # lerp gives either end to the bit.
        weight.copy_(torch.lerp(before[name], weight, alpha))
    if not isinstance(tuned, EncoderModel):
        return tuned
    mixed = {
        task: _between(heads.get(task, head), head, alpha) for task, head in tuned.heads.items()
    }
    return EncoderModel(tuned.encoder, tuned.tokenizer, mixed)


def _between(start: Probe, end: Probe, alpha: float) -> Probe:
    # An end alone: a probe's bias is -inf for a label without rows.
    if alpha in (0.0, 1.0):
        return end if alpha else start
    pairs = ((getattr(start, part), getattr(end, part)) for part in PARTS)
    return Probe(*((1 - alpha) * before + alpha * after for before, after in pairs))


@torch.no_grad()
def lines(base: Loaded, tuned: Loaded, alpha: float) -> Loaded:
    """theta0 + factor (theta1 - theta0), see `depth_factors` (Wang et al. 2024, arXiv 2410.17146,
    section 4), in `tuned`'s own memory. A trained head lies above all blocks: it stays as it is."""
    before = weights_of(base, f"lines-{alpha:g}")
    after = weights_of(tuned, f"lines-{alpha:g}")
    factors = depth_factors(list(after), alpha)
    for name, weight in after.items():
        weight.copy_(torch.lerp(before[name], weight, factors[name]))
    return tuned


def depth_factors(names: Sequence[str], alpha: float) -> dict[str, float]:
    """By parameter: alpha in the first block, 1 in the last, evenly between; alpha of embeddings,
    1 of what comes after the blocks. A vocabulary head tied to the embeddings is one of them.

    Raises UserError where the names tell of fewer than two blocks.
    """
    depths = {name: layer_of(name) for name in names}
    last = max((depth for depth in depths.values() if depth is not None), default=0)
    if not last:
        raise UserError(f"lines-{alpha:g}: the model has no two blocks to tell apart: leave it out")
    return {
        name: (alpha if is_embedding(name) else 1.0)
        if depth is None
        else alpha + (1 - alpha) * depth / last
        for name, depth in depths.items()
    }


@torch.no_grad()
def soup(loads: Sequence[Callable[[], Loaded]]) -> Loaded:
    """The mean of the weights of several models, heads included ("uniform soup", Wortsman et al.
    2022, arXiv 2203.05482). `loads`: what gives each; two of them are in memory at once."""
    first = loads[0]()
    mean = weights_of(first, "soup")
    sums: dict[str, Tensor] = {name: weight.double() for name, weight in mean.items()}
    heads = [first.heads] if isinstance(first, EncoderModel) else []
    for load in loads[1:]:
        other = load()
        for name, weight in weights_of(other, "soup").items():
            sums[name] += weight
        if isinstance(other, EncoderModel):
            heads.append(other.heads)
    for name, weight in mean.items():
        weight.copy_(sums[name] / len(loads))
    if not isinstance(first, EncoderModel):
        return first
    mixed = {
        task: Probe(*(np.mean([getattr(of[task], part) for of in heads], 0) for part in PARTS))
        for task in first.heads
    }
    return EncoderModel(first.encoder, first.tokenizer, mixed)
