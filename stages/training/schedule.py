"""The learning rate as a function of the step, and of the looks at validation so far."""

import math
from collections.abc import Sequence

from stages.config.runs import RunConfig


def rate_factor(config: RunConfig, step: int, losses: Sequence[float] = ()) -> float:
    """What the peak learning rate is multiplied by at `step` (from 0): above 0, at most 1.

    Up over `warmup` of the steps, then by `schedule`: constant; linear down to 0; cosine, half a
    wave down to 0; restarts, `cycles` such waves (Loshchilov and Hutter 2017, arXiv 1608.03983,
    equation 5); plateau, see `reductions`. `losses`: on validation, one a look so far.
    """
    rise = max(1, round(config.warmup * config.steps))
    if step < rise:
        return (step + 1) / rise
    left = (config.steps - step) / max(1, config.steps - rise)
    if config.schedule == "linear":
        return left
    if config.schedule == "cosine":
        return _half_wave(1 - left)
    if config.cycles:
        # In whole numbers: where a wave begins, a float is a hair before the end of the last.
        length = max(1, config.steps - rise)
        return _half_wave((step - rise) * config.cycles % length / length)
    if config.plateau:
        return float(config.plateau.factor ** reductions(losses, config.plateau.patience))
    return 1.0


def _half_wave(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def reductions(losses: Sequence[float], patience: int) -> int:
    """How often `patience` looks in a row, counted anew after each time, brought no better one."""
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            waited, found = 0, found + 1
    return found


def is_over(losses: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` looks brought no better one: time to stop early."""
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])
