"""Stage compare: records to claims. Reads tables only."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from stages import errors
from stages.config.cases import read_cases
from stages.config.compare import read_compare
from stages.config.runs import read_runs
from stages.config.seed import read_seed
from stages.errors import UserError
from stages.records import read_table
from stages.report.markdown import render
from stages.report.metrics import everything, headline
from stages.report.plots import Rows, change_rows, curve_rows, score_rows
from stages.statistics.comparison import Case
from stages.statistics.results import About, Settings
from stages.storage import atomic_file, read_json, write_json

MEASURED_WITH = ("device", "dtype", "threads", "processor", "libraries")


def _tasks(about: dict[str, Any]) -> dict[str, About]:
    return {
        name: About(**{**told, "labels": tuple(told["labels"])})
        for name, told in about["tasks"].items()
    }


def _unlike(base: dict[str, Any], run: dict[str, Any], name: str) -> list[str]:
    """A line for everything that base and run were measured with differently."""
    return [
        f"{name} was measured with another {key} than its base ({run[key]}, not {base[key]}): "
        "part of the change may be that"
        for key in MEASURED_WITH
        if base[key] != run[key]
    ]


def _check_seeds(run: str, records: pd.DataFrame, expected: tuple[int, ...]) -> None:
    found = sorted(set(records["seed"]))
    if found != sorted(expected):
        raise UserError(
            f"records of {run} are of seeds {found}, params.yaml says {sorted(expected)}; "
            "run `dvc repro`"
        )


def _kept(training: pd.DataFrame, about: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for seed, curve in training.groupby("seed"):
        looks = curve[curve["validation_loss"].notna()].set_index("step")
        best = about["best_step"][str(seed)]
        lines.append(
            {
                "seed": seed,
                "steps": int(curve["step"].max()),
                "kept": best,
                "train_loss": looks.loc[best, "train_loss"],
                "validation_loss": looks.loc[best, "validation_loss"],
                "last_validation_loss": looks["validation_loss"].iloc[-1],
            }
        )
    return lines


def main() -> None:
    cases, runs, config, seed = read_cases(), read_runs(), read_compare(), read_seed()
    settings = Settings(config.confidence, config.resamples, seed)
    retention: dict[str, dict[str, Any]] = {}
    scores: dict[str, dict[str, Any]] = {}
    plots: dict[str, Rows] = {"changes": [], "scores": [], "curves": []}
    training, made_with, cards, warnings = {}, {}, {}, []
    for name in cases:
        base, about = read_table(Path(f"metrics/records/{name}/base.parquet"))
        case = Case(base, _tasks(about), settings)
        cards[name] = read_json(Path(f"metrics/cards/{name}.json"))
        made_with[name] = about["provenance"]
        scores[name] = {"base": everything(case, case.base, config.confidence)}
        retention[name] = {}
        plots["scores"] += score_rows(name, case, "base", case.base)
        for run in (run for run, of_run in runs.items() if of_run.case == name):
            records, about = read_table(Path(f"metrics/records/{name}/{run}.parquet"))
            _check_seeds(run, records, runs[run].seeds)
            curves, told = read_table(Path(f"metrics/training/{name}/{run}.parquet"))
            result = case.compare(records)
            warnings += _unlike(made_with[name], about["provenance"], run)
            training[run] = _kept(curves, told)
            scores[name][run] = everything(case, result, config.confidence)
            retention[name][run] = headline(case, result)
            plots["changes"] += change_rows(name, case, run, result)
            plots["scores"] += score_rows(name, case, run, result)
            plots["curves"] += curve_rows(name, run, curves)
    for plot, rows in plots.items():
        write_json(Path(f"metrics/plots/{plot}.json"), rows)
    write_json(Path("metrics/scores.json"), scores)
    write_json(Path("metrics/retention.json"), retention)
    with atomic_file(Path("metrics/report.md")) as temporary:
        report = render(scores, cards, training, made_with, warnings, config.confidence)
        temporary.write_text(report, encoding="utf-8")
    for warning in warnings:
        print(f"warning: {warning}")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
