"""Without the smallest weights."""

import torch

from stages.models.loading import Loaded
from stages.variants.body import linear_layers


@torch.no_grad()
def prune(loaded: Loaded, share: float) -> Loaded:
    """Set `share` of each linear layer's weights to 0, those of least magnitude in their matrix, in
    place (Han et al. 2015, arXiv 1506.02626, without training again).

    Each matrix alone, since magnitudes differ between kinds of layer; biases, norms, embeddings and
    heads stay whole. Of equal weights the first go first.
    """
    for _, _, layer in linear_layers(loaded):
        weight = layer.weight.view(-1)
        order = weight.abs().argsort(stable=True)
        weight[order[: round(share * len(order))]] = 0.0
    return loaded
