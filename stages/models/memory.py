"""What the C library does with memory that a tensor gives back."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 2**26


def keep_freed_memory() -> None:
    """Keep up to 64 MiB of it for the next tensor. glibc alone; elsewhere nothing happens.

    torch has no allocator of its own for the CPU. By default every large tensor is new memory,
    and the system fills it with zeros page by page, which can take longer than computing it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(MMAP_THRESHOLD, KEPT)
    mallopt(TRIM_THRESHOLD, KEPT)
