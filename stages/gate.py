"""May these runs be used? `python -m stages.gate [run …]` says so by its exit code.

0: all pass; 2: one is degraded; 3: none is, but one is undecided; 1: it could not be told.
"""

import sys
from pathlib import Path
from typing import Any

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


def _judged() -> dict[str, Any]:
    """Every run's part of gate.json. Raises UserError where it is not of this params.yaml."""
    if not GATE.exists():
        raise UserError(f"{GATE}: not there; run `dvc repro`")
    told = read_json(GATE)
    if told["limits"] != read_compare().gate.model_dump(mode="json"):
        raise UserError(
            f"{GATE}: made with another compare.gate than params.yaml's; run `dvc repro`"
        )
    judged = {run: found for runs in told["cases"].values() for run, found in runs.items()}
    if missing := sorted(set(read_runs()) - set(judged)):
        raise UserError(f"{GATE}: nothing of {', '.join(missing)}; run `dvc repro`")
    return judged


def main(*runs: str) -> None:
    judged = _judged()
    for run in runs:
        if run not in judged:
            raise UserError(f"{run}: no such run{suggestion(run, list(judged))}")
    chosen = {run: judged[run] for run in runs or judged}
    require_fresh(GATE, chosen)
    for run, told in chosen.items():
        print(f"{run}: {told['verdict']}")
        for line in gate_lines(run, told):
            print(f"  {line.status:<9}  {line.said}")
        for warning in told["warnings"]:
            print(f"  warning: {plain(warning)}")
    verdicts = {told["verdict"] for told in chosen.values()}
    sys.exit(next(CODES[one] for one in (DEGRADED, UNDECIDED, PASS) if one in verdicts))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
