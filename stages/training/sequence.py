"""What a step of a sequence leaves to the next, beside its model: what is learned by now."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.storage import read_json, write_json

LEARNED = "learned.json"


def write_learned(folder: Path, tasks: Sequence[str]) -> None:
    """Into the folder of a run that `is_step`; another one has learned all targets of its case."""
    write_json(folder / LEARNED, list(tasks))


def learned_before(run: str, config: RunConfig, targets: Iterable[str]) -> list[str]:
    """Those of the case's `targets` that were learned before the run, in order; none of a run that
    starts from the base.

    As `stages.check` tells them for the whole file, so for who calls `dvc repro` without it: raises
    UserError where a seed has nothing to start from, or a target was learned before.
    """
    if not config.before:
        return []
    folder = Path(config.teacher)
    for seed in config.seeds:
        if not (folder / f"seed-{seed}").is_dir():
            raise UserError(f"runs.{run}.seeds: {folder} has no seed {seed} to start from")
    told = folder / LEARNED
    found = read_json(told) if told.exists() else list(targets)
    learns = targets if config.learns is None else config.learns
    if again := sorted(set(learns) & set(found)):
        raise UserError(f"runs.{run}.learns: {folder} has learned {again[0]} before")
    return [str(task) for task in found]
