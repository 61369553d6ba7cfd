"""Stage compare: records to claims. Reads tables only."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages import errors
from stages.config.cases import read_cases
from stages.config.compare import read_compare
from stages.config.runs import RunConfig, read_runs
from stages.config.seed import read_seed
from stages.config.variants import read_all_variants
from stages.diagnosis.diagnosis import Given, diagnose
from stages.leftovers import remove_leftovers
from stages.phases import recorded
from stages.report import html, markdown, words
from stages.report.case_report import case_report
from stages.report.frontier import drops, frontier_of, told
from stages.report.gate import gate_of
from stages.report.measured import Measured
from stages.report.metrics import headlines, scores_of
from stages.report.plots import plots
from stages.report.tables import FIGURES, measured_of
from stages.statistics.gate import Limits
from stages.statistics.results import Settings
from stages.storage import atomic_directory, atomic_file, write_json

TABLES = ("records", "training", "drift")
BETWEEN = ("wise", "lines")
"""Kinds of variants that lie between a run and its base."""


def _diagnosis(
    measured: Measured, runs: Mapping[str, RunConfig], settings: Settings
) -> dict[str, Any]:
    """By run."""
    return {
        run: diagnose(
            Given(
                run=run,
                config=runs[run],
                tasks=ran.case.tasks,
                base=measured.base.rows,
                records=ran.records.rows,
                mixes={name: one.rows for name, one in ran.variants.items() if one.kind in BETWEEN},
                training=ran.training.rows,
                best_steps=ran.training.about["best_step"],
                seen=tuple(ran.seen),
                seen_in_case=measured.seen_beside(run),
                later=ran.later,
                drift=ran.drift,
                shift=measured.shift_of(run),
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


@recorded("compare")
def main() -> None:
    cases, runs, config, seed = read_cases(), read_runs(), read_compare(), read_seed()
    variants = read_all_variants(list(runs))
    limits = config.gate.model_dump(mode="json")
    settings = Settings(config.confidence, config.resamples, seed, Limits(**limits))
    tables = {Path(f"metrics/{kind}/{name}.json") for kind in FIGURES for name in cases}
    tables |= {Path(f"metrics/records/{name}/base.parquet") for name in cases}
    for run, recipe in runs.items():
        tables |= {Path(f"metrics/{kind}/{recipe.case}/{run}.parquet") for kind in TABLES}
    for path in remove_leftovers(tables):
        print(f"removed {path}: no case or run of params.yaml owns it")
    measured = [measured_of(name, runs, variants, config.ensembles, settings) for name in cases]
    scores = {one.name: scores_of(one, config.confidence) for one in measured}
    gate = {one.name: gate_of(one) for one in measured}
    diagnosis = {one.name: _diagnosis(one, runs, settings) for one in measured}
    frontiers = {one.name: frontier_of(one, runs, settings) for one in measured}
    reports = [
        case_report(one, scores[one.name], gate[one.name], diagnosis[one.name], frontiers[one.name])
        for one in measured
    ]
    pages = {
        "html": html.render(reports, settings),
        "md": markdown.render(reports, settings),
    }
    with atomic_directory(Path("metrics/plots")) as folder:
        for plot, rows in plots(measured, frontiers).items():
            write_json(folder / f"{plot}.json", rows)
    write_json(Path("metrics/scores.json"), scores)
    write_json(Path("metrics/gate.json"), {"limits": limits, "cases": gate})
    write_json(Path("metrics/diagnosis.json"), diagnosis)
    write_json(
        Path("metrics/frontier.json"), {name: told(found) for name, found in frontiers.items()}
    )
    retention = {one.name: headlines(one, drops(frontiers[one.name])) for one in measured}
    write_json(Path("metrics/retention.json"), retention)
    for kind, text in pages.items():
        _write(Path(f"metrics/report.{kind}"), text)
    for report in reports:
        for warning in report.warnings:
            print(f"warning: {words.plain(warning)}")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
