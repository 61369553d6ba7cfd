"""A run's settings, and the rows of its case that they are applied to."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.base import materialise
from stages.tasks.draw import drawn, drawn_alike
from stages.tasks.examples import Examples, read_role
from stages.tasks.folds import held_out, in_folds
from stages.training.sequence import learned_before

REPLAYING = "retain/train"


@dataclass(frozen=True)
class Recipe:
    """A run's settings, and what they are applied to.

    `train` and `validation`: of each target that it learns. `unlabelled`: of each, the train rows
    that a draw left out; empty where the run has none. `retain`: the train split of each retain
    task, by name, where the run's pool has them; `earlier`: of each target that was learned before.
    `start`: the folder of the run that it starts from; None where that is the base.
    """

    name: str
    config: RunConfig
    manifest: dict[str, Any]
    base: Path
    train: list[Examples]
    validation: list[Examples]
    retain: dict[str, Examples] = field(default_factory=dict)
    unlabelled: list[Examples] = field(default_factory=list)
    earlier: dict[str, Examples] = field(default_factory=dict)
    start: Path | None = None

    @property
    def old(self) -> dict[str, Examples]:
        """What methods may use to keep what the model could do."""
        return {**self.retain, **self.earlier}


def read_recipe(run: str, config: RunConfig, manifest: dict[str, Any]) -> Recipe:
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


def check_folds(recipe: Recipe) -> None:
    """Raises UserError where the rows of a target cannot be held out as a seed's folds have it."""
    for seed in recipe.config.seeds if recipe.config.folds else ():
        for examples in recipe.train:
            try:
                in_folds(examples, recipe.config.folds or 0, seed)
            except UserError as error:
                raise UserError(f"runs.{recipe.name}.{error}") from None


def without_fold(recipe: Recipe, seed: int, fold: int) -> Recipe:
    """The recipe without a fold of each target's train rows, and without snapshots."""
    folds = recipe.config.folds or 0
    train = [held_out(examples, folds, seed, fold)[0] for examples in recipe.train]
    return replace(recipe, train=train, config=recipe.config.model_copy(update={"snapshots": ()}))


def few_rows(recipe: Recipe, seed: int) -> Recipe:
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


def rows_drawn(few: Recipe) -> dict[str, Any]:
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
