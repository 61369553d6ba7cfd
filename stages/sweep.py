"""Go through the grid of a case: `python -m stages.sweep <case> [jobs]`.

Every combination is a DVC experiment, queued, and run by `jobs` workers. An experiment that is
there already is not run again, so that an interrupted sweep is taken up by the same command. The
result is a table: which combinations to take is told by validation, and test is shown of those.
"""

import hashlib
import json
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
from tqdm import tqdm

from stages import errors
from stages.config.overrides import overrides
from stages.config.sweep import SweepConfig, read_sweep
from stages.errors import UserError
from stages.experiments import call, experiments, left_by
from stages.statistics.frontier import Attempt, chosen

WAIT = 15.0
"""Seconds between two looks at the queue, which take a core for three."""
ENDED = ("Failed", "Success")


def _name(run: str, changes: Mapping[str, Any]) -> str:
    """One for each combination: the beginning of a hash tells them apart."""
    text = json.dumps(changes, sort_keys=True)
    return f"{run}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _grid(config: SweepConfig) -> dict[str, dict[str, Any]]:
    """Changes of the run by the name of their experiment."""
    return {_name(config.run, changes): changes for changes in config.combinations()}


def _queue() -> dict[str, str]:
    """What became of each experiment that DVC's queue knows, by name: Queued, Running, …"""
    rows = (line.split() for line in call("dvc", "queue", "status").splitlines())
    return {row[1]: row[-1] for row in rows if len(row) > 3}


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


def _wait(grid: Collection[str]) -> list[str]:
    """Until nothing of the grid is queued or runs. The names of those that failed."""
    with tqdm(total=len(grid), unit="experiment", disable=None) as bar:
        while True:
            known, done = _queue(), experiments()
            ended = [name for name in grid if name in done or known.get(name, "Failed") in ENDED]
            bar.update(len(ended) - bar.n)
            if len(ended) == len(grid):
                return [name for name in grid if name not in done]
            time.sleep(WAIT)


def _table(grid: Mapping[str, dict[str, Any]], case: str, run: str) -> pd.DataFrame:
    """A row an experiment; figures on test of those that validation chooses, which come first."""
    told: dict[str, Mapping[str, Any]] = {}
    for name in grid:
        found = json.loads(left_by(name, "metrics/frontier.json"))[case]
        if "undefined" in found:
            raise UserError(f"{case}: nothing to choose by: {found['undefined']}")
        told[name] = next(one for one in found["attempts"] if one["name"] == run)
    best = chosen(
        [Attempt(name, run, tuple(one["validation"]), {}, {}) for name, one in told.items()]
    )
    names = [one.name for one in best]
    names += [name for name in grid if name not in names]
    rows = []
    for at, name in enumerate(names):
        gain, drop = told[name]["validation"]
        row = {"experiment": name, **grid[name], "gain": f"{gain:+.4f}", "drop": f"{drop:+.4f}"}
        for side in ("gain", "drop"):
            row[f"{side} on test"] = _between(told[name][side]) if at < len(best) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _between(interval: Mapping[str, float]) -> str:
    return "{value:+.4f} [{low:+.4f}, {high:+.4f}]".format(**interval)


def main(case: str = "", jobs: str = "1") -> None:
    if not jobs.isdecimal() or not int(jobs):
        raise UserError(f"JOBS={jobs}: give a whole number from 1")
    if not case:
        raise UserError("CASE is not given: give a case of params.yaml, as CASE=medical-bert")
    config = read_sweep(case)
    grid = _grid(config)
    _enqueue({name: overrides(config.run, changes) for name, changes in grid.items()})
    call("dvc", "queue", "start", "--jobs", jobs)
    failed = _wait(grid)
    ended = {name: changes for name, changes in grid.items() if name not in failed}
    if ended:
        print(_table(ended, case, config.run).to_string(index=False))
        print(
            f"{len(grid)} tried; gain on targets and mean drop of unseen tasks, means over tasks; "
            "test is shown where validation chose. Take one with `dvc exp apply <experiment>`"
        )
    if failed:
        raise UserError("\n".join(f"{name} failed: see `dvc queue logs {name}`" for name in failed))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
