"""Resume points: written whole, read only by the very same work, removed when it is done."""

import shutil
from collections.abc import Collection
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
        self, fingerprint: str, seed: int, fold: int | None = None, beside: str = ""
    ) -> None:
        """`fold`: the one that is held out. `beside`: what is kept there of a step, not where
        training stands."""
        self._of = (fingerprint, seed, fold)
        self._folder = Path(".scratch") / fingerprint
        self._name = f"{{}}-{seed}" + ("" if fold is None else f"-fold-{fold}") + "{}.pt"
        self._path = self._folder / (beside or self._name.format("seed", ""))
        self._hashes = self._path.with_suffix(".json")

    def _beside(self, what: str, step: int) -> "Checkpoint":
        return Checkpoint(*self._of, beside=self._name.format(what, f"-{step}"))

    def snapshot(self, step: int) -> "Checkpoint":
        return self._beside("snapshot", step)

    def best(self, step: int) -> "Checkpoint":
        """The weights of the best validation loss, where it was that of `step`."""
        return self._beside("best", step)

    def keep_best(self, steps: Collection[int]) -> None:
        """Forget what was best, of all steps but these."""
        kept = {self.best(step)._path.stem for step in steps}
        for path in sorted(self._folder.glob(self._name.format("best", "-[0-9]*"))):
            if path.stem not in kept:
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)

    @phase("checkpoint")
    def save(self, state: dict[str, Any]) -> None:
        with atomic_file(self._path) as temporary:
            # A stream, since torch hides what the system says of a path.
            with temporary.open("wb") as stream:
                torch.save(state, stream)
            # Until it is renamed, the file before still counts.
            known = dict.fromkeys([sha256_file(temporary), *self._known()])
            write_json(self._hashes, list(known)[:3])

    def is_whole(self) -> bool:
        """Whether it is there as it was saved, told without a copy of it in memory."""
        if not self._path.exists():
            return False
        if sha256_file(self._path) not in self._known():
            print(f"{self._path}: damaged, so training begins anew")
            return False
        return True

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none, or it is damaged."""
        if not self.is_whole():
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
