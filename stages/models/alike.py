"""Whether two ways of computing the same, in fp32, differ by rounding alone."""

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""Of the largest value: what processors round differently is less, and what a token makes of
another one that it must not see is more."""


def alike(found: Tensor, expected: Tensor) -> bool:
    """Of like shape; both may be NaN at the same places."""
    largest = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(found, expected, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True)
