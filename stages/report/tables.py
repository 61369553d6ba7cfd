"""What compare reads: the tables of a case, and what its runs and their variants came to."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.runs import RunConfig
from stages.config.sequences import sequences, steps
from stages.config.variants import Variant
from stages.errors import UserError
from stages.records import read_records, read_table
from stages.report.ensembles import ensembles_of
from stages.report.measured import Measured, OfVariant, Ran, Told
from stages.statistics.comparison import RESCORED, Case
from stages.statistics.folds import validated
from stages.statistics.prompted import apart
from stages.statistics.results import About, Settings
from stages.statistics.sequence import SequenceResult, follow, in_order
from stages.statistics.variants import FINAL, FOLD, FOLD_BASE, of_variant
from stages.statistics.whole import check_whole
from stages.storage import read_json

FIGURES = ("cards", "shift")


def tasks_of(about: Mapping[str, Any]) -> dict[str, About]:
    """What the metadata of a file of records says. Targets first."""
    told = sorted(about["tasks"].items(), key=lambda item: item[1]["role"] != "target")
    return {
        name: About(**{**of_task, "labels": tuple(of_task["labels"])}) for name, of_task in told
    }


def _check_seeds(run: str, records: pd.DataFrame, expected: tuple[int, ...]) -> None:
    found = sorted(set(records["seed"]))
    if found != sorted(expected):
        raise UserError(
            f"records of {run} are of seeds {found}, params.yaml says {sorted(expected)}; "
            "run `dvc repro`"
        )


def _variants(
    case: Case, run: str, told: Told, variants: Sequence[Variant]
) -> Iterator[tuple[str, OfVariant]]:
    """By name. Raises UserError where the records hold others than params.yaml says."""
    found = sorted(set(told.rows["variant"]) - {FINAL, FOLD, FOLD_BASE})
    if found != sorted(variant.name for variant in variants):
        raise UserError(
            f"records of {run} hold the variants {found}, params.yaml says "
            f"{[variant.name for variant in variants]}; run `dvc repro`"
        )
    for variant in variants:
        rows = of_variant(told.rows, variant.name)
        check_whole(f"{run}@{variant.name}", rows, case.tasks, ("clean",))
        yield variant.name, OfVariant(variant.kind, rows, case.compare_variant(rows))


def _ran(
    case: Case, name: str, run: str, runs: Mapping[str, RunConfig], variants: Sequence[Variant]
) -> Ran:
    config = runs[run]
    targets = case.targets
    learns = targets if config.learns is None else config.learns
    way = steps(runs, run)[:-1]
    before = {task for step in way for task in runs[step].learns or targets}
    case = case.learning(learns) if config.learns else case
    told = Told(*read_records(Path(f"metrics/records/{name}/{run}.parquet")))
    records = Told(of_variant(told.rows), told.about)
    _check_seeds(run, records.rows, config.seeds)
    check_whole(f"run {run}", records.rows, case.tasks, ("clean",))
    derived = dict(_variants(case, run, told, variants))
    folds = validated(run, told.rows, case.tasks, config.folds, len(config.seeds))
    training = _training(name, run)
    drift, _ = read_table(Path(f"metrics/drift/{name}/{run}.parquet"))
    return Ran(
        case=case,
        earlier=tuple(task for task in targets if task in before),
        later=tuple(task for task in targets if task not in before and task not in learns),
        begun_with=tuple(task for step in way for task in _training(name, step).about["seen"]),
        records=records,
        training=training,
        drift=drift,
        result=case.compare(records.rows),
        variants=derived,
        folds=folds,
    )


def _training(name: str, run: str) -> Told:
    return Told(*read_table(Path(f"metrics/training/{name}/{run}.parquet")))


def _sequences(
    case: Case,
    base: pd.DataFrame,
    ran: Mapping[str, Ran],
    runs: Mapping[str, RunConfig],
    settings: Settings,
) -> Iterator[tuple[str, SequenceResult]]:
    """By the last run."""
    targets = case.targets
    for last, way in sequences(runs).items():
        if last in ran:
            learned = [runs[step].learns or targets for step in way]
            yield (
                last,
                follow(
                    base,
                    {step: ran[step].records.rows for step in way},
                    in_order(learned),
                    {task: about.measure for task, about in case.tasks.items()},
                    confidence=settings.confidence,
                    draws=settings.resamples,
                    seed=settings.seed,
                ),
            )


def measured_of(
    name: str,
    runs: Mapping[str, RunConfig],
    variants: Mapping[str, Sequence[Variant]],
    ensembles: Mapping[str, Sequence[str]],
    settings: Settings,
) -> Measured:
    """`runs`: of all cases, and their `variants` and `ensembles`."""
    records, about = read_records(Path(f"metrics/records/{name}/base.parquet"))
    asked, prompted = apart(records)
    base = Told(asked, about)
    card, shift = (read_json(Path(f"metrics/{kind}/{name}.json")) for kind in FIGURES)
    tasks = tasks_of(base.about)
    check_whole(f"the base of {name}", base.rows, tasks, ("clean", RESCORED))
    case = Case(base.rows, tasks, settings)
    ran = {
        run: _ran(case, name, run, runs, variants[run])
        for run, told in runs.items()
        if told.case == name
    }
    made = ensembles_of(name, base.rows, tasks, ran, ensembles, settings)
    followed = dict(_sequences(case, base.rows, ran, runs, settings))
    return Measured(name, case, base, prompted, card, shift, ran, made, followed)
