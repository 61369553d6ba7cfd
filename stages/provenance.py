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
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


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
