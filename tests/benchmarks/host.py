"""What the machine gives a process: memory, and the rate of matrix products."""

import ctypes
import gc
import resource
import sys
import time
from pathlib import Path

import torch

SIDE = 2048
"""Of the square matrices whose product is timed."""
REPEATS = 5


def reset_peak() -> bool:
    """Begin a new peak of resident memory. False where the system keeps the old one.

    What was freed before is no part of it, where the allocator can be told (glibc's).
    """
    gc.collect()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return "VmHWM" in _status()
    except OSError:
        return False


def peak_memory() -> int:
    """Bytes: the most that were resident since `reset_peak`, or since the process began."""
    try:
        return _status()["VmHWM"]
    except (OSError, KeyError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two square matrices: the best of a few,
    with the threads that torch has now."""
    a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best


def _status() -> dict[str, int]:
    """Sizes of this process, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {
        words[0].rstrip(":"): int(words[1]) * 1024
        for words in lines
        if len(words) == 3 and words[2] == "kB"
    }
