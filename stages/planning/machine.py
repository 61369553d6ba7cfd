"""What work is done on: its memory, its disk, and how fast it is.

Of this machine the rate of matrix products is measured, in the shapes of the model, and the rate at
which memory is copied. A pass of a model takes what its products take, and what BESIDE says of the
rest, fitted to default runs (`python -m stages.plan --check` says what would fit the one that was
recorded last). Of a device that is not here the rates are what its maker publishes, of which a pass
reaches a share that is an assumption.
"""

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from stages.errors import UserError
from stages.models.device import device, dtype

SECONDS = 1.0
"""That each product is repeated for; the fastest counts, for other programs may run beside."""

MOST_ROWS = (512, 8192)
"""Of a product on a CPU, short enough that one of many is not interrupted; and on a GPU, which
needs more rows to be busy."""

REACHED = 0.85
"""Share of the rate of a large product that those of a pass reach, as profiles show: three quarters
to four fifths in training, nine tenths in scoring."""
BESIDE = {
    ("train", "encoder"): 22.0,
    ("train", "causal"): 42.0,
    ("adapt", "encoder"): 45.0,
    ("adapt", "causal"): 68.0,
    ("read", "encoder"): 20.0,
    ("read", "causal"): 19.0,
    ("write", "causal"): 200.0,
    ("probe", "encoder"): 950.0,
}
"""Bytes that are moved beside the products, for each operation of them, in a model one wide: of a
token both grow with the layers, the products with the square of the width. By kind of work (see
Work in work.py) and of model."""

ASSUMED = 0.4
"""Share of its peak that a device which is not here reaches: training was said to, 0.38 to 0.46
(Chowdhery et al. 2022, arXiv 2204.02311, table 3; Dubey et al. 2024, arXiv 2407.21783, table 4).
"""

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """`memory`: bytes of one device; `disk`: bytes that are free. `copies`: bytes a second.
    `products`: FLOP/s, by precision, width and rows. `reached`: what a pass reaches of them;
    `beside`: bytes moved beside them, as in BESIDE, by kind of work and model."""

    name: str
    devices: int
    memory: float
    disk: float
    copies: float
    products: Callable[[str, int, int], float]
    reached: float
    beside: Callable[[str, str], float]
    precision: Callable[[str], str]
    measured: bool

    @property
    def host(self) -> bool:
        """Whether it works in the host's own memory."""
        return self.measured and device().type == "cpu"


@dataclass(frozen=True)
class Published:
    """FLOP/s in bf16 without sparsity and in fp32 (TF32 left out), bytes, bytes a second."""

    bf16: float
    fp32: float
    memory: float
    bandwidth: float


PUBLISHED = {
    "a100": Published(312e12, 19.5e12, 80 * GB, 2.04e12),
    "h100": Published(989e12, 67e12, 80 * GB, 3.35e12),
    "h200": Published(989e12, 67e12, 141 * GB, 4.8e12),
    "l4": Published(121e12, 30e12, 24 * GB, 0.30e12),
    "l40s": Published(362e12, 91.6e12, 48 * GB, 0.864e12),
}
"""NVIDIA's data sheets: A100 SXM 80 GB, H100 SXM, H200 SXM, L4, L40S."""


def published(name: str, devices: int) -> Machine:
    """Raises UserError where it is not in the table."""
    if name not in PUBLISHED:
        raise UserError(f"--device {name}: give one of {', '.join(PUBLISHED)}, or leave it out")
    told = PUBLISHED[name]
    return Machine(
        name=name,
        devices=devices,
        memory=told.memory,
        disk=float("inf"),  # it is not this one's
        copies=told.bandwidth,
        products=lambda precision, *_: told.bf16 if precision == "bf16" else told.fp32,
        reached=ASSUMED,
        beside=lambda *_: 0.0,
        precision=lambda asked: "fp32" if asked == "fp32" else "bf16",
        measured=False,
    )


def here(devices: int) -> Machine:
    """This machine, its rates measured when they are first asked for."""
    where = device()
    return Machine(
        name=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        devices=devices,
        memory=_memory(where),
        disk=shutil.disk_usage(Path.cwd()).free,
        copies=_copied(where),
        products=partial(_products, where),
        reached=REACHED,
        beside=lambda work, model: BESIDE.get((work, model), 0.0),
        precision=lambda asked: "bf16" if dtype(asked, where) == torch.bfloat16 else "fp32",
        measured=True,
    )


def _memory(where: torch.device) -> float:
    if where.type == "cuda":
        return float(torch.cuda.get_device_properties(where).total_memory)
    physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        # A container may have less than its machine.
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return physical
    return min(physical, float(limit)) if limit.isdigit() else physical


def _fastest(once: Callable[[], object], where: torch.device) -> float:
    """Seconds of the fastest of some calls."""
    best, began = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - began < SECONDS:
        before = time.perf_counter()
        once()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        best = min(best, time.perf_counter() - before)
    return best


def _products(where: torch.device, precision: str, width: int, rows: int) -> float:
    most = MOST_ROWS[where.type == "cuda"]
    # A power of two, so that batches of about one size are measured once.
    return _multiplied(precision, width, min(most, 2 ** round(math.log2(max(16, rows)))))


@lru_cache
def _multiplied(precision: str, width: int, rows: int) -> float:
    """FLOP/s of [rows, width] times [width, 4 width], the largest product of a block."""
    where, used = device(), torch.bfloat16 if precision == "bf16" else torch.float32
    with torch.inference_mode():
        given = torch.randn(rows, width, device=where, dtype=used)
        layer = torch.nn.Linear(width, 4 * width, bias=False, device=where, dtype=used)
        layer(given)
        return 2 * rows * width * 4 * width / _fastest(lambda: layer(given), where)


@lru_cache
def _copied(where: torch.device) -> float:
    """Bytes that are read and written a second, by copying more than a cache holds."""
    given = torch.ones(2**25, device=where)
    into = torch.empty_like(given)
    return 2 * given.numel() * given.element_size() / _fastest(lambda: into.copy_(given), where)
