"""Which rows a step sees, and which dropout: functions of (seed, step), with no state to save."""

import numpy as np
import torch
from numpy.typing import NDArray


def draw(rows: int, seed: int, start: int, stop: int) -> NDArray[np.intp]:
    """Indices [stop - start]: what stands at these places of an endless order of `rows` rows.

    Epoch after epoch a new permutation by (seed, epoch); a batch may run over into the next.
    """
    places = np.arange(start, stop)
    epochs = places // rows
    found = np.empty_like(places)
    for epoch in np.unique(epochs):
        order = np.random.default_rng((seed, int(epoch))).permutation(rows)
        of_epoch = epochs == epoch
        found[of_epoch] = order[places[of_epoch] % rows]
    return found


def seed_step(seed: int, step: int, share: int) -> None:
    """Seed torch's generators (dropout) for one share of a step."""
    words = np.random.SeedSequence((seed, step, share)).generate_state(2, np.uint32)
    torch.manual_seed(int(words[0]) << 31 ^ int(words[1]))
