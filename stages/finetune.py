"""Stage finetune: apply one run's recipe to its case, once a seed."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages import errors, processes
from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.models.device import describe, device
from stages.models.sharing import agreed_dtype, join, of_all
from stages.phases import phase, recorded
from stages.provenance import provenance
from stages.records import write_table
from stages.storage import atomic_directory, fingerprint, read_json, sha256_file
from stages.training.checkpoint import Checkpoint
from stages.training.methods.method import Fit, Method
from stages.training.methods.table import chosen, misfits
from stages.training.recipe import (
    Recipe,
    check_folds,
    few_rows,
    read_recipe,
    rows_drawn,
    without_fold,
)
from stages.training.run import train_seed
from stages.training.sequence import write_learned


def _inputs(config: RunConfig) -> list[Path]:
    """The files and folders that the run is made of; some may stand twice."""
    data = Path("data") / config.case
    manifest = Path(f"models/base/{config.case}.json")
    return sorted({manifest, data / "target", data / config.pool, Path(config.teacher)})


@phase("hash")
def _fingerprint(run: str, config: RunConfig, made_with: dict[str, Any]) -> str:
    """What must be the same for a checkpoint to be the beginning of this very work."""
    code = [sha256_file(path) for path in sorted(Path(__file__).parent.rglob("*.py"))]
    same = {key: made_with[key] for key in ("inputs", "device", "dtype", "threads", "libraries")}
    return fingerprint(run, config.model_dump(mode="json"), code, same, processes.count())


def _made_with(run: str, config: RunConfig) -> dict[str, Any]:
    """The provenance of the first process, for all: each has a GPU and cores of its own, and by
    their names they would look for checkpoints in folders of their own.

    Raises UserError where they would compute in unlike dtypes.
    """
    used = agreed_dtype(f"runs.{run}.precision", config.precision)
    return of_all(provenance(_inputs(config), **describe(device(), used)))[0]


def check_fit(recipe: Recipe, methods: Sequence[Method]) -> None:
    """As `stages.check` does it for the whole file, for who calls `dvc repro` without it."""
    targets = {examples.task.name: examples.task.kind for examples in recipe.train}
    retain, earlier = (
        {name: examples.task.kind for name, examples in there.items()}
        for there in (recipe.retain, recipe.earlier)
    )
    fit = Fit(recipe.config, recipe.manifest["kind"], targets, retain, earlier)
    if mistakes := list(misfits(recipe.name, methods, fit)):
        raise UserError("\n".join(mistakes))


@recorded("finetune")
def main(run: str) -> None:
    everyone = join()
    config = read_run(run)
    methods = chosen(run, config)
    manifest = read_json(Path(f"models/base/{config.case}.json"))
    made_with = _made_with(run, config)
    recipe = read_recipe(run, config, manifest)
    check_fit(recipe, methods)
    check_folds(recipe)
    fingerprint_ = _fingerprint(run, config, made_with)
    curves, best_steps, notes = [], {}, {}
    out = Path(f"models/tuned/{run}")
    with atomic_directory(out) if processes.is_first() else nullcontext(out) as folder:
        if config.is_step and processes.is_first():
            own = [examples.task.name for examples in recipe.train]
            write_learned(folder, [*recipe.earlier, *own])
        for seed in config.seeds:
            few = few_rows(recipe, seed)
            trained = train_seed(
                few, methods, seed, Checkpoint(fingerprint_, seed), folder / f"seed-{seed}"
            )
            curves.append(pd.DataFrame(trained.history).assign(seed=seed))
            best_steps[str(seed)] = trained.best_step
            notes[str(seed)] = trained.notes | rows_drawn(few)
            if trained.best_step == 0:
                print(f"{run}, seed {seed}: no step was better on validation than the start")
            for fold in range(config.folds or 0):
                resumed = Checkpoint(fingerprint_, seed, fold=fold)
                aside = folder / f"seed-{seed}" / f"fold-{fold}"
                train_seed(without_fold(recipe, seed, fold), methods, seed, resumed, aside)
    everyone.wait_for_everyone()  # all read their best weights before they are removed
    if not processes.is_first():
        return
    table = pa.Table.from_pandas(pd.concat(curves, ignore_index=True), preserve_index=False)
    seen = sorted({task for method in methods for task in method.sees()})
    about = {"run": run, "best_step": best_steps, "seen": seen, "provenance": made_with}
    if any(notes.values()):
        about["notes"] = notes
    write_table(Path(f"metrics/training/{config.case}/{run}.parquet"), table, about)
    Checkpoint(fingerprint_, 0).remove_all()


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
