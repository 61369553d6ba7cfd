"""Try what the diagnosis advises: `python -m stages.improve <case> <rounds> [run]`.

A round runs the most promising advice on the run that is best so far, from the case's first run or
the one given, as a DVC experiment. Better is a better verdict of the gate, then less lost; none
may gain less than the first run surely did. It ends after so many rounds, or where the gate passes
or no advice is left. The workspace stays as it is.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages import errors
from stages.config.cases import read_cases
from stages.config.reading import suggestion
from stages.config.runs import read_runs
from stages.diagnosis.attempt import Attempt
from stages.errors import UserError
from stages.experiments import call, experiments, left_by
from stages.statistics.gate import PASS

FILES = ("gate", "scores", "diagnosis")


def _here(name: str) -> str:
    path = Path(f"metrics/{name}.json")
    if not path.exists():
        raise UserError(f"{path}: not there; run `dvc repro`")
    return path.read_text(encoding="utf-8")


def _results(texts: Sequence[str], case: str, run: str) -> tuple[Attempt, dict[str, Any]]:
    """How good a run is, and its diagnosis; from FILES."""
    gate, scores, diagnosis = map(json.loads, texts)
    try:
        of_run = gate["cases"][case][run], scores[case][run], diagnosis[case][run]
    except KeyError:
        raise UserError(f"metrics: nothing of {run}; run `dvc repro`") from None
    return Attempt.of(*of_run[:2]), of_run[2]


def _name(run: str) -> str:
    """One that no experiment has."""
    taken = experiments()
    return next(
        name for number in range(1, len(taken) + 2) if (name := f"{run}-try-{number}") not in taken
    )


def _start(case: str, run: str | None) -> str:
    cases, runs = read_cases(), read_runs()
    if not case:
        raise UserError("CASE is not given: give a case of params.yaml, as CASE=medical-bert")
    if case not in cases:
        raise UserError(f"{case}: no such case{suggestion(case, list(cases))}")
    known = [name for name, told in runs.items() if told.case == case]
    if run is None and known:
        return known[0]
    if run not in known:
        raise UserError(f"{run}: no run of {case}{suggestion(str(run), known)}")
    return run


def _say(name: str, found: Attempt) -> None:
    print(
        f"{name}: gate {found.verdict}, gain {found.gain:+.4f} (at least "
        f"{found.least_gain:+.4f}), drops of {found.burden:.2f} margins",
        flush=True,
    )


def main(case: str = "", rounds: str = "1", run: str | None = None) -> None:
    if not rounds.isdecimal() or not int(rounds):
        raise UserError(f"ROUNDS={rounds}: give a whole number from 1")
    run = _start(case, run or None)
    first, diagnosis = _results([_here(name) for name in FILES], case, run)
    _say(run, first)
    best = first
    settings: list[str] = []
    kept, tried, tries = "", set[str](), 0
    for _ in range(int(rounds)):
        if best.verdict == PASS:
            print("the gate passes")
            break
        left = [one for one in diagnosis["advice"] if one["command"] not in tried]
        if not left:
            print("no advice is left")
            break
        advice = left[0]
        tried.add(advice["command"])
        wanted = [*settings, *advice["settings"]]
        name = _name(run)
        print(f"{name}: {', '.join(advice['settings'])}: {advice['because']}", flush=True)
        given = [part for one in wanted for part in ("-S", one)]
        try:
            call("dvc", "exp", "run", "--temp", "--name", name, *given, "compare")
        except UserError as error:
            print(f"{name}: {error}", flush=True)
            continue
        tries += 1
        found, told = _results([left_by(name, f"metrics/{one}.json") for one in FILES], case, run)
        _say(name, found)
        if found.is_better_than(best, first):
            best, diagnosis, settings, kept = found, told, wanted, name
    if tries > 1:
        print(f"chosen on test, the best of {tries} tries: its gate errs more than it says")
    print(
        f"best: {kept}; take it with `dvc exp apply {kept}`" if kept else f"best: {run}, as it is"
    )


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
