"""Resume points: written whole, read only by the very same work, removed when it is done."""

import shutil
from pathlib import Path
from typing import Any

import torch

from stages.errors import UserError
from stages.phases import phase
from stages.storage import atomic_file, read_json, sha256_file, write_json


class Checkpoint:
    """A file under .scratch/<fingerprint>/, which DVC and git do not see, and its sha256 beside it.

    torch does not check what it reads: without the hash, a flipped bit would be trained on.
    """

    def __init__(
        self, fingerprint: str, seed: int, step: int | None = None, fold: int | None = None
    ) -> None:
        """`step`: of a snapshot, kept beside the resume point. `fold`: the one that is held out."""
        self._fingerprint, self._seed = fingerprint, seed
        self._folder = Path(".scratch") / fingerprint
        name = f"seed-{seed}" if step is None else f"snapshot-{seed}-{step}"
        name += "" if fold is None else f"-fold-{fold}"
        self._path = self._folder / f"{name}.pt"
        self._hashes = self._path.with_suffix(".json")

    def snapshot(self, step: int) -> "Checkpoint":
        return Checkpoint(self._fingerprint, self._seed, step)

    @phase("checkpoint")
    def save(self, state: dict[str, Any]) -> None:
        with atomic_file(self._path) as temporary:
            # A stream, since torch hides what the system says of a path.
            with temporary.open("wb") as stream:
                torch.save(state, stream)
            # Until it is renamed, the file before still counts.
            known = dict.fromkeys([sha256_file(temporary), *self._known()])
            write_json(self._hashes, list(known)[:3])

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none, or it is damaged."""
        if not self._path.exists():
            return None
        if sha256_file(self._path) not in self._known():
            print(f"{self._path}: damaged, so training begins anew")
            return None
        state: dict[str, Any] = torch.load(self._path, weights_only=True, map_location="cpu")
        return state

    def kept(self) -> dict[str, Any]:
        """What `load` gives. Raises UserError where there is nothing whole."""
        state = self.load()
        if state is None:
            raise UserError(f"{self._path}: not there, or damaged; run again")
        return state

    def remove_all(self) -> None:
        """Forget every seed of this work."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _known(self) -> list[str]:
        try:
            known: list[str] = read_json(self._hashes)
        except UserError:
            return []
        return known
