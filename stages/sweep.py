"""Go through the grid of a case: `python -m stages.sweep <case> [jobs]`.

Every combination is a DVC experiment, queued, and run by `jobs` workers. An experiment that is
there already, of the same params.yaml and code, is not run again, so that an interrupted sweep is
taken up by the same command. The result is a table: which combinations to take is told by
validation, and test is shown of those; drops are over the tasks that no combination has seen.
"""

import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm import tqdm

from stages import errors
from stages.config.overrides import changed, overrides
from stages.config.reading import load
from stages.config.sweep import SweepConfig, read_sweep
from stages.errors import UserError
from stages.experiments import call, experiments, left_by
from stages.statistics.frontier import Attempt, chosen
from stages.statistics.intervals import Interval, mean_of
from stages.storage import fingerprint, read_json, sha256_file

PIPELINE = Path("dvc.yaml")

WAIT = 15.0
"""Seconds between two looks at the queue, which take a core for three."""
ENDED = ("Failed", "Success")
WORKERS = Path(".dvc/tmp/exps/celery")
"""Where each worker of the queue writes down its process."""
PATIENCE, STARTS = 2, 3
"""Looks without a worker until others are started, and how often."""


def _code() -> dict[str, str]:
    """The sha256 of dvc.yaml and of the files that stages depend on. What stages make is none of
    them: it stands in folders, or under names of cases and runs."""
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"].values()
    deps = {Path(dep) for stage in stages for dep in stage.get("do", stage).get("deps", [])}
    files = sorted({PIPELINE, *(dep for dep in deps if dep.is_file())})
    return {path.as_posix(): sha256_file(path) for path in files}


def _grid(config: SweepConfig) -> dict[str, dict[str, Any]]:
    """Changes of the run by the name of their experiment: a hash of all that it depends on."""
    params = {key: value for key, value in load().items() if key != "sweep"}
    runs, code = params["runs"], _code()
    grid = {}
    for changes in config.combinations():
        tried = {**runs, config.run: changed(runs[config.run], changes)}
        grid[f"{config.run}-{fingerprint({**params, 'runs': tried}, code)[:8]}"] = changes
    return grid


def _queue() -> dict[str, str]:
    """What became of each experiment that DVC's queue knows, by name: Queued, Running, … Of one
    that was killed a Failed stays, whatever becomes of it when it is queued again."""
    rows = [line.split() for line in call("dvc", "queue", "status").splitlines()]
    told = [(row[1], row[-1]) for row in rows if len(row) > 3]
    return dict(sorted(told, key=lambda one: one[1] not in ENDED))


def _enqueue(grid: Mapping[str, list[str]]) -> None:
    known, done = _queue(), experiments()
    for name, settings in grid.items():
        state = known.get(name)
        if name in done or (state and state not in ENDED):
            continue
        if state:
            call("dvc", "queue", "remove", name)
        given = [part for one in settings for part in ("-S", one)]
        call("dvc", "exp", "run", "--queue", "--name", name, *given, "compare")


def _start(grid: Mapping[str, list[str]], jobs: str) -> None:
    _enqueue(grid)
    call("dvc", "queue", "start", "--jobs", jobs)


def _worked_on() -> bool:
    """Whether a worker of the queue is there. `dvc queue status` counts those that answer within a
    second, which a busy one may not."""
    for path in WORKERS.glob("*.json"):
        try:
            told = read_json(path)
            if told["returncode"] is None:
                os.kill(told["pid"], 0)
                return True
        except ProcessLookupError:
            continue
        except (UserError, PermissionError):  # half-written yet, or another user's
            return True
    return False


def _run(grid: Mapping[str, list[str]], jobs: str) -> list[str]:
    """Until nothing of the grid is queued or runs. The names of those that failed.

    A worker that ends while it is given an experiment, as where the queue was empty just before,
    takes it along, and so does a machine that is switched off: to DVC it runs for ever. Raises
    UserError where workers do nothing else.
    """
    starts = alone = 0
    _start(grid, jobs)
    with tqdm(total=len(grid), unit="experiment", disable=None) as bar:
        while True:
            known, done = _queue(), experiments()
            ended = [name for name in grid if name in done or known.get(name, "Failed") in ENDED]
            bar.update(len(ended) - bar.n)
            if len(ended) == len(grid):
                return [name for name in grid if name not in done]
            alone = 0 if _worked_on() else alone + 1
            if alone == PATIENCE:
                left = {name: grid[name] for name in grid if name not in ended}
                if starts == STARTS:
                    raise UserError(f"workers of DVC's queue end before {', '.join(left)} has run")
                for name in left:
                    if known[name] == "Running":
                        call("dvc", "queue", "kill", "--force", name)
                _start(left, jobs)
                starts, alone = starts + 1, 0
            time.sleep(WAIT)


def _result(name: str, case: str, run: str) -> dict[str, Any]:
    """The run in frontier.json; and with `tasks`, what scores.json has of it."""
    found = json.loads(left_by(name, "metrics/frontier.json"))[case]
    if "undefined" in found:
        raise UserError(f"{case}: nothing to choose by: {found['undefined']}")
    told: dict[str, Any] = next(one for one in found["attempts"] if one["name"] == run)
    return {**told, "tasks": json.loads(left_by(name, "metrics/scores.json"))[case][run]}


def _unseen(results: Collection[Mapping[str, Any]], case: str) -> list[str]:
    """The tasks that drops are compared over: those that every experiment counts as unseen."""
    counted = [set(one["by_task"]) for one in results]
    if not (shared := sorted(set.intersection(*counted))):
        told = ", ".join(sorted(set.union(*counted)))
        raise UserError(
            f"{case}: {told}: each is seen by a combination, and none is left to compare drops "
            "over: let the grid's methods see fewer tasks, or add retain tasks"
        )
    if all(one["by_task"][task] is None for one in results for task in shared):
        raise UserError(
            f"{case}: {', '.join(shared)}: unseen by all combinations, without validation examples "
            "to choose by: let the grid's methods see fewer tasks, or add retain tasks"
        )
    return shared


def _drop(result: Mapping[str, Any], tasks: Collection[str]) -> tuple[float, Interval]:
    """The mean over tasks, on validation and on test."""
    if set(tasks) == set(result["by_task"]):
        return result["validation"][1], _interval(result["drop"])
    validated = [result["by_task"][task] for task in tasks]
    known = [one for one in validated if one is not None]
    test = [_interval(result["tasks"][task]["drop"]) for task in tasks]
    return sum(known) / len(known), mean_of(test)


def _interval(told: Mapping[str, float]) -> Interval:
    return Interval(told["value"], told["low"], told["high"])


def _table(
    grid: Mapping[str, dict[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    tasks: Collection[str],
) -> pd.DataFrame:
    """A row an experiment; figures on test of those that validation chooses, which come first."""
    drops = {name: _drop(result, tasks) for name, result in results.items()}
    gains = {name: float(result["validation"][0]) for name, result in results.items()}
    best = chosen([Attempt(name, "", (gains[name], drops[name][0]), {}, {}) for name in grid])
    names = [one.name for one in best]
    names += [name for name in grid if name not in names]
    rows = []
    for at, name in enumerate(names):
        drop, lost = drops[name]
        row = {
            "experiment": name,
            **grid[name],
            "gain": f"{gains[name]:+.4f}",
            "drop": f"{drop:+.4f}",
        }
        for side, test in (("gain", _interval(results[name]["gain"])), ("drop", lost)):
            row[f"{side} on test"] = _between(test) if at < len(best) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _between(one: Interval) -> str:
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def main(case: str = "", jobs: str = "1") -> None:
    if not jobs.isdecimal() or not int(jobs):
        raise UserError(f"JOBS={jobs}: give a whole number from 1")
    if not case:
        raise UserError("CASE is not given: give a case of params.yaml, as CASE=medical-bert")
    config = read_sweep(case)
    grid = _grid(config)
    run = load()["runs"][config.run]
    wanted = {name: overrides(config.run, changes, run) for name, changes in grid.items()}
    failed = _run(wanted, jobs)
    ended = {name: changes for name, changes in grid.items() if name not in failed}
    if ended:
        results = {name: _result(name, case, config.run) for name in ended}
        tasks = _unseen(results.values(), case)
        print(_table(ended, results, tasks).to_string(index=False))
        print(
            f"{len(grid)} tried; mean gain on targets, mean drop over {', '.join(tasks)}, which no "
            "combination nor run of the case has seen; test is shown where validation chose. Take "
            "one with `dvc exp apply <experiment>`"
        )
    if failed:
        raise UserError("\n".join(f"{name} failed: see `dvc queue logs {name}`" for name in failed))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
