"""What a measurement was made with, so that two can be told apart."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.phases import phase
from stages.storage import sha256_path

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "numpy",
    "scikit-learn",
    "pyarrow",
)
WRITTEN = (":(exclude)dvc.lock", ":(exclude)metrics")
"""Tracked by git, and changed by the run whose revision is asked for."""
CPUINFO = Path("/proc/cpuinfo")
EXTENSIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""Flags of a processor by which its products are computed, the fastest first."""


def _git_revision() -> str:
    """Of the checkout; `-dirty` where a tracked file differs, but for what `dvc repro` writes."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("diff", "--name-only", "HEAD", "--", ".", *WRITTEN)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    """Its name, and the widest of EXTENSIONS: clouds give one name to processors of which some
    multiply bf16 five times as fast as others, in another order of sums."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = told.get("model name") or platform.processor() or platform.machine()
    flags = told.get("flags", "").split()
    return ", ".join([name, *[one for one in EXTENSIONS if one in flags][:1]])


@phase("hash")
def provenance(inputs: Sequence[Path], **measured_with: Any) -> dict[str, Any]:
    """Versions, processor, git revision and the sha256 of each of `inputs`, files and folders,
    beside what the caller adds (device, dtype …)."""
    return {
        **measured_with,
        "inputs": {path.as_posix(): sha256_path(path) for path in inputs},
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "git": _git_revision(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
