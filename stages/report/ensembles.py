"""Ensembles of a case's runs: their records, what they came to, and their table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.config.kinds import AVERAGED
from stages.report.derived import MEAN, Derived, mean_of_unseen
from stages.report.lines import OF_RUN, lines
from stages.report.measured import Ensemble, Measured, Ran
from stages.statistics.comparison import Case
from stages.statistics.ensemble import of_choices, of_labels
from stages.statistics.results import About, Settings
from stages.statistics.variants import brief
from stages.tasks.examples import path_of, read_examples

ENSEMBLE = "ensemble"
"""What stands for the run in an ensemble's name, as `ensemble@<name>`."""


def called(name: str) -> str:
    return f"{ENSEMBLE}{OF_RUN}{name}"


def ensembles_of(
    name: str,
    base: pd.DataFrame,
    tasks: Mapping[str, About],
    ran: Mapping[str, Ran],
    named: Mapping[str, Sequence[str]],
    settings: Settings,
) -> dict[str, Ensemble]:
    """Of the case `name`. `named`: runs by ensemble, of any case.

    On the tasks of kinds that can be averaged; of each run all seeds count, each as one model.
    """
    own = {one: runs for one, runs in named.items() if set(runs) <= set(ran)}
    if not own:
        return {}
    averaged = {task: about for task, about in tasks.items() if about.kind in AVERAGED}
    case = Case(base[base["task"].isin(list(averaged))], averaged, settings)
    found = {}
    for one, runs in own.items():
        members = [
            of_seed
            for run in runs
            for _, of_seed in brief(ran[run].records.rows).groupby("seed", sort=True)
        ]
        parts = [_of_task(name, task, about, members) for task, about in averaged.items()]
        records = pd.concat(parts, ignore_index=True).assign(seed=0)
        seen = {task for run in runs for task in ran[run].seen}
        found[one] = Ensemble(
            runs=tuple(runs),
            models=len(members),
            case=case,
            result=case.compare_variant(records),
            seen=tuple(sorted(seen & set(averaged))),
            left_out={task: about.kind for task, about in tasks.items() if task not in averaged},
        )
    return found


def _of_task(name: str, task: str, about: About, members: Sequence[pd.DataFrame]) -> pd.DataFrame:
    rows = [member[member["task"] == task] for member in members]
    if about.labels:
        return of_labels(rows, about.labels)
    return of_choices(rows, dict(_asked(name, task, about.role, sorted(set(rows[0]["split"])))))


def _asked(
    name: str, task: str, role: str, splits: Sequence[str]
) -> Iterator[tuple[str, tuple[list[str], int]]]:
    for split in splits:
        rows = read_examples(path_of(name, role, split, task)).rows
        for example, choices, answer in zip(
            rows["example_id"], rows["choices"], rows["answer"], strict=True
        ):
            yield str(example), (list(np.asarray(choices)), int(answer))


def _averaged(ran: Ran) -> str:
    """Of a run by itself, how many models stand in its line."""
    seeds = ran.records.rows["seed"].nunique()
    return "1" if seeds == 1 else f"mean of {seeds}"


def ensembled(measured: Measured, scores: Mapping[str, Any]) -> tuple[Derived, str] | None:
    """The table, and what it leaves out; `scores`: the case's part of scores.json. Below the
    ensembles stand their runs, whose seeds are averaged and not asked together."""
    if not measured.ensembles:
        return None
    first = next(iter(measured.ensembles.values()))
    runs = dict.fromkeys(run for one in measured.ensembles.values() for run in one.runs)
    shown = {
        f"{name}: {' + '.join(one.runs)}": (called(name), str(one.models))
        for name, one in measured.ensembles.items()
    } | {run: (run, _averaged(measured.runs[run])) for run in runs}
    averaged, left_out = first.case.tasks, first.left_out
    tables = {
        title: [
            line
            for line in lines({"base": scores["base"], key: scores[key]})
            if line.task in averaged
        ]
        for title, (key, _) in shown.items()
    }
    columns = {line.task: f"{line.task}, {line.unit.step}" for line in next(iter(tables.values()))}
    rows = []
    for title, table in tables.items():
        changes = {line.task: line.unit.change_between(line.change) for line in table}
        mean = mean_of_unseen(table, measured.used)
        rows.append((title, shown[title][1], *(changes[task] for task in columns), mean))
    absent = ", ".join(f"{task} ({kind})" for task, kind in left_out.items())
    return Derived(("ensemble", "models", *columns.values(), MEAN), tuple(rows)), absent
