"""What the C library does with memory that a tensor gives back."""

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # glibc's malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """From now on keep it for the next tensor; what was given back so far, as by loading a model,
    goes to the system. glibc alone; elsewhere nothing happens.

    torch has no allocator of its own for the CPU. By default every large tensor is new memory,
    and the system fills it with zeros page by page, which can take longer than computing it.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    malloc_trim(0)
    mallopt(MMAP_MAX, 0)  # a block of its own always goes back
    mallopt(TRIM_THRESHOLD, MOST)
