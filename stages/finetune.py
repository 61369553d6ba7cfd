"""Stage finetune: apply one run's recipe to its case, once a seed."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages import errors, processes
from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.device import describe, device, dtype
from stages.models.sharing import join
from stages.phases import phase, recorded
from stages.provenance import provenance
from stages.records import write_table
from stages.storage import atomic_directory, fingerprint, read_json, sha256_file
from stages.tasks.draw import drawn, drawn_alike
from stages.tasks.examples import Examples, read_role
from stages.tasks.folds import held_out
from stages.training.checkpoint import Checkpoint
from stages.training.methods.method import Fit, Method
from stages.training.methods.table import chosen, misfits
from stages.training.run import train_seed
from stages.training.sequence import learned_before, write_learned
from stages.training.subject import Recipe

REPLAYING = "retain/train"


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


def _recipe(run: str, config: RunConfig, manifest: dict[str, Any]) -> Recipe:
    case = config.case
    train, validation = (_by_name(case, "target", split) for split in ("train", "validation"))
    learns = list(train) if config.learns is None else sorted(config.learns)
    if unknown := [task for task in learns if task not in train]:
        raise UserError(f"runs.{run}.learns: {unknown[0]} is no target of {case}")
    return Recipe(
        name=run,
        config=config,
        manifest=manifest,
        base=materialise(manifest),
        train=[train[task] for task in learns],
        validation=[validation[task] for task in learns],
        retain=_by_name(case, "retain", "train") if config.pool == REPLAYING else {},
        earlier={task: train[task] for task in learned_before(run, config, train)},
        start=Path(config.teacher) if config.before else None,
    )


def _by_name(case: str, role: str, split: str) -> dict[str, Examples]:
    return {examples.task.name: examples for examples in read_role(case, role, split)}


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


def _without(recipe: Recipe, seed: int, fold: int) -> Recipe:
    """The recipe without a fold of each target's train rows, and without snapshots."""
    folds = recipe.config.folds or 0
    train = [held_out(examples, folds, seed, fold)[0] for examples in recipe.train]
    return replace(recipe, train=train, config=recipe.config.model_copy(update={"snapshots": ()}))


def _few(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with the rows that `seed` draws, where the run has a draw."""
    draw = recipe.config.draw
    if draw is None:
        return recipe
    try:
        parts = [drawn(train, draw, seed) for train in recipe.train]
    except UserError as error:
        raise UserError(f"runs.{recipe.name}.{error}") from None
    validation = [drawn_alike(rows, draw, seed) for rows in recipe.validation]
    train, unlabelled = map(list, zip(*parts, strict=True))
    return replace(recipe, train=train, validation=validation, unlabelled=unlabelled)


def _drawn(few: Recipe) -> dict[str, Any]:
    """Rows of the draw by target; nothing without one."""
    if few.config.draw is None:
        return {}
    pairs = zip(few.train, few.validation, strict=True)
    return {
        "draw": {
            train.task.name: {"train": len(train), "validation": len(validation)}
            for train, validation in pairs
        }
    }


@recorded("finetune")
def main(run: str) -> None:
    join()
    config = read_run(run)
    methods = chosen(run, config)
    manifest = read_json(Path(f"models/base/{config.case}.json"))
    where = device()
    made_with = provenance(_inputs(config), **describe(where, dtype(config.precision, where)))
    recipe = _recipe(run, config, manifest)
    check_fit(recipe, methods)
    fingerprint_ = _fingerprint(run, config, made_with)
    curves, best_steps, notes = [], {}, {}
    out = Path(f"models/tuned/{run}")
    with atomic_directory(out) if processes.is_first() else nullcontext(out) as folder:
        if config.is_step and processes.is_first():
            own = [examples.task.name for examples in recipe.train]
            write_learned(folder, [*recipe.earlier, *own])
        for seed in config.seeds:
            few = _few(recipe, seed)
            trained = train_seed(
                few, methods, seed, Checkpoint(fingerprint_, seed), folder / f"seed-{seed}"
            )
            curves.append(pd.DataFrame(trained.history).assign(seed=seed))
            best_steps[str(seed)] = trained.best_step
            notes[str(seed)] = trained.notes | _drawn(few)
            if trained.best_step == 0:
                print(f"{run}, seed {seed}: no step was better on validation than the start")
            for fold in range(config.folds or 0):
                resumed = Checkpoint(fingerprint_, seed, fold=fold)
                aside = folder / f"seed-{seed}" / f"fold-{fold}"
                train_seed(_without(recipe, seed, fold), methods, seed, resumed, aside)
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
