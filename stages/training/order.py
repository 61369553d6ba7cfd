"""Which rows a step sees, and which dropout: functions of (seed, step), with no state to save."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

WINDOW = 8
"""Batches among whose rows those of like length are brought together."""


def _stream(rows: int, seed: int, start: int, stop: int) -> NDArray[np.intp]:
    """Rows at positions start .. stop-1: epoch after epoch a new permutation by (seed, epoch)."""
    positions = np.arange(start, stop)
    epochs = positions // rows
    found = np.empty_like(positions)
    for epoch in np.unique(epochs):
        order = np.random.default_rng((seed, int(epoch))).permutation(rows)
        of_epoch = epochs == epoch
        found[of_epoch] = order[positions[of_epoch] % rows]
    return found


def batch(
    rows: int, size: int, seed: int, step: int, lengths: Sequence[int] | None = None
) -> NDArray[np.intp]:
    """Indices [size] of global batch `step` (from 0); a batch may run over into the next epoch.

    With `lengths` [rows], the rows of WINDOW batches are shared out anew, those of like length
    together, which leaves little padding; the order of these batches is random again.
    """
    if lengths is None:
        return _stream(rows, seed, step * size, (step + 1) * size)
    window, within = divmod(step, WINDOW)
    shared = _stream(rows, seed, window * WINDOW * size, (window + 1) * WINDOW * size)
    shared = shared[np.argsort([lengths[row] for row in shared], kind="stable")]
    # A third number keeps this stream apart from those of the epochs.
    chosen = np.random.default_rng((seed, window, WINDOW)).permutation(WINDOW)[within]
    return shared[chosen * size : (chosen + 1) * size]


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed torch's generators (dropout) for one step of one process."""
    words = np.random.SeedSequence((seed, step, process)).generate_state(2, np.uint32)
    torch.manual_seed(int(words[0]) << 31 ^ int(words[1]))
