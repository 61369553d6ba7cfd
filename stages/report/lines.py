"""The headline: a line a run and task, from a case's part of scores.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.units import Ends, Unit, ends_of, measure_of, unit_of

COLUMNS = ("run", "task", "unit", "before", "after", "change", "real?")
OF_RUN = "@"
"""Between the names of a run and of its variant; no name in params.yaml has it."""


@dataclass(frozen=True)
class SliceLine:
    """A part of a task. `change`: positive = better; None where it could not be drawn."""

    name: str
    n: int
    before: float
    after: float
    change: Ends | None


@dataclass(frozen=True)
class Line:
    """A run on a task. `change`: positive = better, whatever the role; `told`: scores.json's."""

    run: str
    task: str
    is_target: bool
    unit: Unit
    before: Ends
    after: Ends
    change: Ends
    told: Mapping[str, Any]
    slices: tuple[SliceLine, ...]

    @property
    def seen(self) -> bool:
        """Whether the run's methods used the task's train split."""
        return not self.is_target and bool(self.told["seen"])

    @property
    def real(self) -> bool:
        return bool(self.told["real"])

    @property
    def tone(self) -> str:
        if not self.real:
            return "unclear"
        return "better" if self.change.value > 0 else "worse"

    @property
    def doubt(self) -> str:
        """Why a change whose interval leaves out zero is not real, where the floor is why."""
        floor = self.told["noise_floor"]
        within = abs(self.told["value"]) <= floor
        if self.real or not within or self.told["low"] <= 0 <= self.told["high"]:
            return ""
        return f"within its noise floor of {self.unit.level(floor)} {self.unit.step}"

    @property
    def label(self) -> str:
        if self.is_target:
            return f"{self.task} (target)"
        standing = [f"{self.told['target']} target"] if "target" in self.told else []
        standing += ["seen"] if self.seen else []
        return f"{self.task} ({', '.join(standing)})" if standing else self.task

    def cells(self) -> tuple[str, ...]:
        """In the order of COLUMNS."""
        return (
            self.run,
            self.label,
            self.unit.name,
            self.unit.level(self.before.value),
            self.unit.level(self.after.value),
            self.unit.change_between(self.change),
            "yes" if self.real else "no",
        )


def of_runs(of_case: Mapping[str, Any]) -> dict[str, Any]:
    """A case's part of scores.json without the variants."""
    return {name: found for name, found in of_case.items() if OF_RUN not in name}


def lines(of_case: Mapping[str, Any]) -> list[Line]:
    """Of everything beside the base, in order, and in each of targets, unseen and seen tasks."""
    base = of_case["base"]
    found: list[Line] = []
    for run, tasks in of_case.items():
        if run != "base":
            of_run = [_line(run, task, base[task], told) for task, told in tasks.items()]
            found += sorted(of_run, key=lambda line: (not line.is_target, line.seen))
    return found


def _line(run: str, task: str, base: Mapping[str, Any], found: Mapping[str, Any]) -> Line:
    is_target = "gain" in found
    told = found["gain"] if is_target else found["drop"]
    measure = measure_of(found)
    unit = unit_of(measure)
    return Line(
        run=run,
        task=task,
        is_target=is_target,
        unit=unit,
        before=ends_of(base[measure]),
        after=ends_of(found[measure]),
        change=_better(told, is_target),
        told=told,
        slices=tuple(
            SliceLine(
                name,
                part["n"],
                part["before"],
                part["after"],
                _better(part, is_target) if "value" in part else None,
            )
            for name, part in told.get("slices", {}).items()
        ),
    )


def _better(found: Mapping[str, Any], is_target: bool) -> Ends:
    """A gain as it is, a drop turned round."""
    ends = ends_of(found)
    return ends if is_target else Ends(-ends.value, -ends.high, -ends.low)
