"""Is what differs between two branches real? `python -m stages.branches <from> [to]`.

Runs that both branches have are compared on the examples that both were asked, from their records:
in DVC's cache, or its remote. Without `to`, the workspace. Prints Markdown, fit for a pull request.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from dvc.api import DVCFileSystem

from stages import errors
from stages.config.compare import read_compare
from stages.config.reading import PARAMS
from stages.config.seed import read_seed
from stages.errors import UserError
from stages.records import read_records
from stages.report.made_with import unlike
from stages.report.tables import tasks_of
from stages.report.units import unit_of
from stages.report.words import cell
from stages.statistics.branches import Shift, shifts
from stages.statistics.comparison import Case
from stages.statistics.gate import Limits
from stages.statistics.measures import HIT_AT_1, Measure
from stages.statistics.results import Settings
from stages.statistics.variants import of_variant

FOUND = ("change", "lost, won", "real?")


class Branch:
    """What a revision holds; of None the workspace."""

    def __init__(self, revision: str | None) -> None:
        self.name = revision or "workspace"
        try:
            self._files = DVCFileSystem(rev=revision)
            params = yaml.safe_load(self._files.read_text(str(PARAMS), encoding="utf-8"))
            self.runs = {run: str(told["case"]) for run, told in params["runs"].items()}
        except Exception as error:  # git's, DVC's and YAML's have no common ground
            reason = " ".join(str(error).split())
            raise UserError(f"{self.name}: {PARAMS} cannot be read there: {reason}") from None

    def of(self, case: str) -> list[str]:
        return [run for run, its_case in self.runs.items() if its_case == case]

    def records(self, case: str, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
        path = f"metrics/records/{case}/{name}.parquet"
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder, Path(path).name)
            try:
                self._files.get_file(path, str(there))
            except Exception as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"{self.name}: {path} is neither in the cache nor in a remote ({reason}); run "
                    "`dvc repro` or `dvc push` there"
                ) from None
            return read_records(there)


def _cells(run: str, task: str, measure: Measure, found: Shift, confidence: float) -> list[str]:
    unit, change = unit_of(measure.name), found.change
    return [
        run,
        task,
        unit.name,
        unit.level(found.before),
        unit.level(found.after),
        unit.change_between(change),
        f"{unit.level(found.lost)}, {unit.level(found.won)}",
        "yes" if found.is_real(confidence) else "no",
    ]


def _why_not(task: str, branches: Sequence[Branch], asked: Sequence[Mapping[str, Measure]]) -> str:
    """Why a task is not compared. `asked`: of each branch, the measures of its tasks."""
    for branch, its, others in zip(branches, asked, reversed(asked), strict=True):
        if task in its and task not in others:
            return f"only on {cell(branch.name)}"
    first, last = (its[task].name for its in asked)
    if first != last:
        return f"{first} on the one, {last} on the other"
    if first == HIT_AT_1:
        return "not asked among the same documents"
    return "fewer than two examples (or groups of them) in common"


def _of_case(case: str, branches: Sequence[Branch], settings: Settings) -> Iterator[str]:
    """Lines of Markdown."""
    one, other = branches
    (base, about), (_, also) = (branch.records(case, "base") for branch in branches)
    tasks = tasks_of(about)
    noise = Case(base, tasks, settings).base.noise
    asked = [{task: told.measure for task, told in of.items()} for of in (tasks, tasks_of(also))]
    names = {task: measure.name for task, measure in asked[1].items()}
    measures = {task: told for task, told in asked[0].items() if names.get(task) == told.name}
    floors = {task: found.floor for task, found in noise.items()}
    runs = [run for run in one.of(case) if run in other.of(case)]
    yield f"## {case}"
    yield ""
    yield from _table_row(("run", "task", "unit", cell(one.name), cell(other.name), *FOUND))
    yield from _table_row(["---"] * (5 + len(FOUND)))
    alone, unlike_runs = {}, defaultdict[str, list[str]](list)
    for run in runs:
        there = [branch.records(case, run) for branch in branches]
        first, last = (of_variant(records) for records, _ in there)
        found = shifts(first, last, measures, floors, settings)
        # What differs in the data is told by task.
        before, after = ({**told["provenance"], "inputs": None} for _, told in there)
        for line in unlike(before, after, other.name, one.name):
            unlike_runs[line].append(run)
        for task, shift in found.items():
            yield from _table_row(_cells(run, task, measures[task], shift, settings.confidence))
            alone[task] = shift.alone
        for task in sorted({*asked[0], *asked[1]} - set(found)):
            yield from _table_row((run, task, *["-"] * 5, _why_not(task, branches, asked)))
    for line, of_runs in unlike_runs.items():
        yield f"\n{line} ({', '.join(of_runs)})."
    for branch, its in ((one, other), (other, one)):
        if only := sorted(set(branch.of(case)) - set(its.of(case))):
            yield f"\nOnly on {branch.name}: {', '.join(only)}."
    for task, count in alone.items():
        if count:
            yield f"\n{task}: {count} test examples are on one branch only, and left out."
    yield ""


def _table_row(cells: Iterable[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def main(before: str, after: str | None = None) -> None:
    config = read_compare()
    limits = Limits(**config.gate.model_dump(mode="json"))
    settings = Settings(config.confidence, config.resamples, read_seed(), limits)
    branches = Branch(before), Branch(after)
    cases = sorted(set(branches[0].runs.values()) & set(branches[1].runs.values()))
    if not cases:
        raise UserError(f"{before} and {branches[1].name} have no case in common")
    for case in cases:
        for line in _of_case(case, branches, settings):
            print(line)
    print(
        f"change [{config.confidence:.0%} interval]: + is better. lost, won: what went and what "
        "came. real: sign flips, Holm-adjusted over the run's tasks, and beyond the noise floor."
    )


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
