"""The gate: metrics/gate.json, and its lines in the reports and on a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.made_with import unlike
from stages.report.measured import Measured, Ran
from stages.report.units import Ends, Unit, unit_of
from stages.statistics.gate import DEGRADED, MOST, PASS, UNDECIDED, verdict
from stages.statistics.paired import Undefined
from stages.statistics.results import About

DECIMALS = 4


@dataclass(frozen=True)
class GateLine:
    """A run on a task. `change`: positive = better; `limit`: the least that passes."""

    run: str
    task: str
    is_target: bool
    status: str
    unit: Unit
    change: Ends
    limit: float
    n: int
    needed: int | None

    @property
    def label(self) -> str:
        return f"{self.task} (target)" if self.is_target else self.task

    @property
    def outlook(self) -> str:
        """What it would be with more examples of the same rates; empty where it is decided."""
        if self.status != UNDECIDED:
            return ""
        if not self.needed:
            return f"still {UNDECIDED} at {MOST:,} examples"
        decided = PASS if self.change.value >= self.limit else DEGRADED
        return f"{decided} at about {_two_digits(self.needed):,} examples"

    @property
    def said(self) -> str:
        unit = self.unit
        text = (
            f"{self.label}: {unit.change_between(self.change)} {unit.step}, at least "
            f"{unit.change(self.limit)} passes, {self.n:,} examples"
        )
        return f"{text}; {self.outlook}" if self.outlook else text


def _two_digits(number: int) -> int:
    """Rounded up: it is an estimate, and no more digits of it are known."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def gate_of(measured: Measured) -> dict[str, Any]:
    """The case's part of gate.json: by run, its verdict, its tasks, and what makes it doubtful."""
    return {
        run: _of_run(
            ran.case.tasks,
            ran,
            [
                *unlike(measured.base.provenance, ran.records.provenance, run),
                *_at_chance(measured.name, ran),
            ],
        )
        for run, ran in measured.runs.items()
    }


def _at_chance(case: str, ran: Ran) -> Iterator[str]:
    """A line for every retain task on which there is nothing to lose."""
    for task, change in ran.result.changes.items():
        kept = ran.case.tasks[task].role == "retain"
        by_chance = ran.result.scores[task].chance is not None
        if kept and by_chance and isinstance(change.retained, Undefined):
            why = change.retained.reason
            yield f"{task} of {case} can hardly show a loss: {why}"


def _of_run(tasks: Mapping[str, About], ran: Ran, warnings: list[str]) -> dict[str, Any]:
    judged = ran.result.gate
    return {
        "verdict": verdict(judged.values()),
        "warnings": warnings,
        "tasks": {
            task: {
                "status": one.status,
                "role": tasks[task].role,
                "measure": tasks[task].measure.name,
                "change": round(one.change.value, DECIMALS),
                "low": round(one.change.low, DECIMALS),
                "high": round(one.change.high, DECIMALS),
                "limit": one.limit,
                "n": one.n,
                "needed": one.needed,
            }
            for task, one in judged.items()
        },
    }


def gate_lines(run: str, told: Mapping[str, Any]) -> Iterator[GateLine]:
    """`told`: a run's part of gate.json."""
    for task, one in told["tasks"].items():
        yield GateLine(
            run=run,
            task=task,
            is_target=one["role"] == "target",
            status=one["status"],
            unit=unit_of(one["measure"]),
            change=Ends(one["change"], one["low"], one["high"]),
            limit=one["limit"],
            n=one["n"],
            needed=one["needed"],
        )


def summary(lines: Sequence[GateLine], outcome: str) -> str:
    """A run's verdict and the tasks that it is owed to."""
    if outcome == PASS:
        return "pass"
    parts = []
    for status in (DEGRADED, UNDECIDED):
        tasks = [
            f"{line.task} ({line.outlook})" if line.outlook else line.task
            for line in lines
            if line.status == status
        ]
        if tasks:
            parts.append(f"{status} on {', '.join(tasks)}")
    return "; ".join(parts)
