"""May these runs be used? `python -m stages.gate [run …]` says so by its exit code.

0: all pass; 2: one is degraded; 3: none is, but one is undecided; 1: it could not be told.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from stages import errors
from stages.config.compare import read_compare
from stages.config.reading import suggestion
from stages.config.runs import read_runs
from stages.config.stale import require_fresh
from stages.errors import UserError
from stages.report.gate import gate_lines
from stages.report.words import plain
from stages.statistics.gate import DEGRADED, PASS, UNDECIDED
from stages.storage import read_json

GATE = Path("metrics/gate.json")
CODES = {PASS: 0, DEGRADED: 2, UNDECIDED: 3}


class Judged(NamedTuple):
    """A run's verdict, its exit code, and what is said of it, line by line."""

    verdict: str
    code: int
    said: list[str]


def _judged() -> dict[str, Judged]:
    """By run. Raises UserError where gate.json is not of this params.yaml, or damaged."""
    if not GATE.exists():
        raise UserError(f"{GATE}: not there; run `dvc repro`")
    limits, judged = _read()
    if limits != read_compare().gate.model_dump(mode="json"):
        raise UserError(
            f"{GATE}: made with another compare.gate than params.yaml's; run `dvc repro`"
        )
    if missing := sorted(set(read_runs()) - set(judged)):
        raise UserError(f"{GATE}: nothing of {', '.join(missing)}; run `dvc repro`")
    return judged


def _read() -> tuple[Any, dict[str, Judged]]:
    told = read_json(GATE)
    try:
        judged = {
            run: Judged(found["verdict"], CODES[found["verdict"]], _said(run, found))
            for runs in told["cases"].values()
            for run, found in runs.items()
        }
        return told["limits"], judged
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{GATE}: damaged; run `dvc repro compare`") from None


def _said(run: str, told: dict[str, Any]) -> list[str]:
    lines = [f"{line.status:<9}  {line.said}" for line in gate_lines(run, told)]
    return [*lines, *(f"warning: {plain(warning)}" for warning in told["warnings"])]


def main(*runs: str) -> None:
    judged = _judged()
    for run in runs:
        if run not in judged:
            raise UserError(f"{run}: no such run{suggestion(run, list(judged))}")
    chosen = {run: judged[run] for run in runs or judged}
    require_fresh(GATE, chosen)
    for run, told in chosen.items():
        print(f"{run}: {told.verdict}")
        for line in told.said:
            print(f"  {line}")
    codes = {told.code for told in chosen.values()}
    sys.exit(next(CODES[one] for one in (DEGRADED, UNDECIDED, PASS) if CODES[one] in codes))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
