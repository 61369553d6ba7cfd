"""Work that the processes of one launch share: each takes its turn, and all get all of it."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed

from stages.errors import UserError
from stages.models.device import device

B = TypeVar("B")
R = TypeVar("R")

WAIT = timedelta(days=1)
"""How long the others wait while one process works alone, as when it fetches the base or saves what
was tuned. By default NCCL ends them all after ten minutes."""


def join() -> PartialState:
    """Meet the other processes, where there are any; on a GPU each takes its own.

    Raises UserError where one GPU is named for several of them.
    """
    where = device()
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)  # accelerate takes the one that is set
    state = PartialState(cpu=where.type == "cpu", timeout=WAIT)
    if state.num_processes > 1 and where.index is not None:
        raise UserError(f"PALIMPSEST_DEVICE='{where}': each process takes its own: give cuda")
    return state


def of_all(value: R) -> list[R]:
    """What each process gives, the first's first: every one calls this, and gets the same."""
    if not _several():
        return [value]
    given: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(given, value)
    return given


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def dealt(batches: Iterable[B], work: Callable[[B], R]) -> Iterator[tuple[B, R]]:
    """Each batch and what `work` makes of it, in order; the processes take batches in turn.

    Every process calls this with the same batches. What `work` returns is sent to all of them.
    """
    if not _several():
        for batch in batches:
            yield batch, work(batch)
        return
    listed, own, count = list(batches), distributed.get_rank(), distributed.get_world_size()
    made: list[Any] = [None] * count
    distributed.all_gather_object(made, [work(batch) for batch in listed[own::count]])
    for number, batch in enumerate(listed):
        yield batch, made[number % count][number // count]
