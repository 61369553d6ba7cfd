"""Resume points: written whole, read only by the very same work, removed when it is done."""

import shutil
from pathlib import Path
from typing import Any

import torch

from stages.storage import atomic_file


class Checkpoint:
    """One file under .scratch/<fingerprint>/, which DVC and git do not see."""

    def __init__(self, fingerprint: str, seed: int) -> None:
        self._folder = Path(".scratch") / fingerprint
        self._path = self._folder / f"seed-{seed}.pt"

    def save(self, state: dict[str, Any]) -> None:
        with atomic_file(self._path) as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none."""
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, weights_only=True, map_location="cpu")
        return state

    def remove_all(self) -> None:
        """Forget every seed of this work."""
        shutil.rmtree(self._folder, ignore_errors=True)
