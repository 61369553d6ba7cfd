"""What every function here asks of its arrays: matching shapes, and no value missing."""

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def _finite(name: str, values: ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name} needs {dimensions} dimension(s) and a value, not {array.shape}")
    missing = array.size - int(np.isfinite(array).sum())
    if missing:
        raise ValueError(f"{missing} of {array.size} values of {name} are not finite")
    return array


def vectors(**named: ArrayLike) -> list[Floats]:
    """The arguments as float64 [n], all of one length n >= 1, every value finite.

    Raises ValueError, with the counts, for anything else.
    """
    arrays = {name: _finite(name, values, 1) for name, values in named.items()}
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"{len(array)} {name}" for name, array in arrays.items())
        raise ValueError(f"the lengths do not match: {counts}")
    return list(arrays.values())


def matrix(name: str, values: ArrayLike) -> Floats:
    """`values` as float64 [rows, columns], at least one of each, every value finite.

    Raises ValueError, with the counts, for anything else.
    """
    return _finite(name, values, 2)


def group_codes(groups: Iterable[Hashable]) -> Integers:
    """Groups as int64 [n], numbered from 0 in order of first appearance.

    By hash, not by sorting: labels of mixed types are fine, and renaming changes nothing.
    """
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(group, len(codes)) for group in groups], dtype=np.int64)
