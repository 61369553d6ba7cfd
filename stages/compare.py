"""Stage compare: records to claims. Reads tables only."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages import errors
from stages.config.cases import read_cases
from stages.config.compare import read_compare
from stages.config.runs import RunConfig, read_runs
from stages.config.seed import read_seed
from stages.diagnosis.diagnosis import Given, diagnose
from stages.errors import UserError
from stages.leftovers import remove_leftovers
from stages.records import read_records, read_table
from stages.report import html, markdown, words
from stages.report.case_report import case_report
from stages.report.gate import gate_of
from stages.report.measured import Measured, Ran, Told
from stages.report.metrics import headline, scores_of
from stages.report.plots import plots
from stages.statistics.comparison import RESCORED, Case
from stages.statistics.gate import Limits
from stages.statistics.results import About, Settings
from stages.statistics.whole import check_whole
from stages.storage import atomic_directory, atomic_file, read_json, write_json

FIGURES = ("cards", "shift")
TABLES = ("records", "training", "drift")


def _tasks(about: Mapping[str, Any]) -> dict[str, About]:
    """Targets first."""
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


def _ran(case: Case, name: str, run: str, seeds: tuple[int, ...]) -> Ran:
    records = Told(*read_records(Path(f"metrics/records/{name}/{run}.parquet")))
    _check_seeds(run, records.rows, seeds)
    check_whole(f"run {run}", records.rows, case.tasks, ("clean",))
    training = Told(*read_table(Path(f"metrics/training/{name}/{run}.parquet")))
    drift, _ = read_table(Path(f"metrics/drift/{name}/{run}.parquet"))
    return Ran(records, training, drift, case.compare(records.rows))


def _measured(name: str, runs: Mapping[str, tuple[int, ...]], settings: Settings) -> Measured:
    """`runs`: the seeds of each run of the case."""
    base = Told(*read_records(Path(f"metrics/records/{name}/base.parquet")))
    card, shift = (read_json(Path(f"metrics/{kind}/{name}.json")) for kind in FIGURES)
    tasks = _tasks(base.about)
    check_whole(f"the base of {name}", base.rows, tasks, ("clean", RESCORED))
    case = Case(base.rows, tasks, settings)
    ran = {run: _ran(case, name, run, seeds) for run, seeds in runs.items()}
    return Measured(name, case, base, card, shift, ran)


def _diagnosis(
    measured: Measured, runs: Mapping[str, RunConfig], settings: Settings
) -> dict[str, Any]:
    """By run."""
    return {
        run: diagnose(
            Given(
                run=run,
                config=runs[run],
                tasks=measured.case.tasks,
                base=measured.base.rows,
                records=ran.records.rows,
                training=ran.training.rows,
                best_steps=ran.training.about["best_step"],
                seen=tuple(ran.seen),
                seen_in_case=measured.seen,
                drift=ran.drift,
                shift=measured.shift,
                card=measured.card,
                before=measured.case.base,
                result=ran.result,
            ),
            settings,
        )
        for run, ran in measured.runs.items()
    }


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main() -> None:
    cases, runs, config, seed = read_cases(), read_runs(), read_compare(), read_seed()
    limits = config.gate.model_dump(mode="json")
    settings = Settings(config.confidence, config.resamples, seed, Limits(**limits))
    tables = {Path(f"metrics/{kind}/{name}.json") for kind in FIGURES for name in cases}
    tables |= {Path(f"metrics/records/{name}/base.parquet") for name in cases}
    for run, told in runs.items():
        tables |= {Path(f"metrics/{kind}/{told.case}/{run}.parquet") for kind in TABLES}
    for path in remove_leftovers(tables):
        print(f"removed {path}: no case or run of params.yaml owns it")
    measured = [
        _measured(
            name, {run: told.seeds for run, told in runs.items() if told.case == name}, settings
        )
        for name in cases
    ]
    scores = {one.name: scores_of(one, config.confidence) for one in measured}
    gate = {one.name: gate_of(one) for one in measured}
    diagnosis = {one.name: _diagnosis(one, runs, settings) for one in measured}
    reports = [
        case_report(one, scores[one.name], gate[one.name], diagnosis[one.name]) for one in measured
    ]
    pages = {
        "html": html.render(reports, settings),
        "md": markdown.render(reports, settings),
    }
    with atomic_directory(Path("metrics/plots")) as folder:
        for plot, rows in plots(measured).items():
            write_json(folder / f"{plot}.json", rows)
    write_json(Path("metrics/scores.json"), scores)
    write_json(Path("metrics/gate.json"), {"limits": limits, "cases": gate})
    write_json(Path("metrics/diagnosis.json"), diagnosis)
    retention = {
        one.name: {run: headline(one.case, ran) for run, ran in one.runs.items()}
        for one in measured
    }
    write_json(Path("metrics/retention.json"), retention)
    for kind, text in pages.items():
        _write(Path(f"metrics/report.{kind}"), text)
    for report in reports:
        for warning in report.warnings:
            print(f"warning: {words.plain(warning)}")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
