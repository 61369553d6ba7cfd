"""Work that the processes of one launch share: each takes its turn, and all get all of it."""

import atexit
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from stages.errors import UserError
from stages.models.device import device, dtype

B = TypeVar("B")
R = TypeVar("R")

WAIT = timedelta(days=1)
"""How long the others wait while one process works alone, as when it fetches the base or saves what
was tuned. By default NCCL ends them all after ten minutes."""
ROUND = 8
"""Batches that each process works on before all are told: NCCL takes what is told through every
GPU's memory, which has no room for that of a whole run."""


def join() -> PartialState:
    """Meet the other processes, where there are any; on a GPU each takes its own.

    Raises UserError where one GPU is named for several of them.
    """
    where = device()
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)  # accelerate takes the one that is set
    state = PartialState(cpu=where.type == "cpu", timeout=WAIT)
    # With its threads still there, the end of the interpreter may abort.
    atexit.register(_leave)
    if state.num_processes > 1 and where.index is not None:
        raise UserError(f"PALIMPSEST_DEVICE='{where}': each process takes its own: give cuda")
    return state


def _leave() -> None:
    if _several():
        distributed.destroy_process_group()


def of_all(value: R) -> list[R]:
    """What each process gives, the first's first: every one calls this, and gets the same."""
    if not _several():
        return [value]
    given: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(given, value)
    return given


def agreed_dtype(key: str, precision: str) -> torch.dtype:
    """What all processes compute in. `key`: of params.yaml, where `precision` stands.

    Raises UserError where it is not the same for each.
    """
    everyones = of_all(dtype(precision, device()))
    if len(found := {str(one).removeprefix("torch.") for one in everyones}) > 1:
        raise UserError(
            f"{key} = {precision}: the processes would compute in {' and '.join(sorted(found))}, "
            "each in what its device has; give bf16 or fp32"
        )
    return everyones[0]


@torch.no_grad()
def as_first(weights: Iterable[Tensor]) -> None:
    """Give tensors, in place, the values that they have in the first process.

    They may lie elsewhere than on the device, from which alone NCCL sends.
    """
    if not _several():
        return
    for weight in weights:
        sent = weight.detach().to(device()).contiguous()
        distributed.broadcast(sent, src=0)
        weight.copy_(sent)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def dealt(batches: Iterable[B], work: Callable[[B], R]) -> Iterator[tuple[B, R]]:
    """Each batch and what `work` makes of it, in order; the processes take batches in turn.

    Every process calls this with the same batches, and takes all that comes. What `work` returns is
    sent to all of them, after each ROUND.
    """
    if not _several():
        for batch in batches:
            yield batch, work(batch)
        return
    own, count, coming = distributed.get_rank(), distributed.get_world_size(), iter(batches)
    while at_once := list(islice(coming, ROUND * count)):
        made = of_all([work(batch) for batch in at_once[own::count]])
        for number, batch in enumerate(at_once):
            yield batch, made[number % count][number // count]
