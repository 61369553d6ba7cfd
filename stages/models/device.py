"""Where tensors live and in which precision: the machine's affair, not params.yaml's."""

import os

import torch

from stages.errors import UserError


def device() -> torch.device:
    """PALIMPSEST_DEVICE, or CUDA where there is one, or the CPU."""
    given = os.environ.get("PALIMPSEST_DEVICE")
    try:
        found = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"PALIMPSEST_DEVICE={given!r}: no such device; try cpu or cuda") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"PALIMPSEST_DEVICE={given!r}: this torch ({torch.__version__}) sees no GPU; install a "
            "build for CUDA, or leave the variable out"
        )
    return found


def has_bf16(where: torch.device) -> bool:
    """Whether bfloat16 products are native there; emulated, they are slow and still inexact."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if where.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def dtype(precision: str, where: torch.device) -> torch.dtype:
    """`fp32`, `bf16`, or `auto`: bf16 where the processor has it."""
    if precision == "bf16" or (precision == "auto" and has_bf16(where)):
        return torch.bfloat16
    return torch.float32


def describe(where: torch.device, used: torch.dtype) -> dict[str, str | int]:
    """For provenance: the device, the dtype and the number of threads."""
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    return {
        "device": name,
        "dtype": str(used).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
