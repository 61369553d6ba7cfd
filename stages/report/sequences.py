"""Sequences of targets in the reports: figures for files, and tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.heat_map import HeatMap, heat_map, row_names
from stages.report.lines import OF_RUN
from stages.report.units import BITS, Unit, unit_of
from stages.statistics.measures import Measure
from stages.statistics.paired import Undefined
from stages.statistics.sequence import SequenceResult

SEQUENCE = "sequence"
"""What stands for the run in a sequence's name, as `sequence@<its last run>`."""
DECIMALS = 4
DEFINED = {
    "average_accuracy": (
        "average accuracy",
        "of the targets after the last step (Lopez-Paz and Ranzato 2017, equation 2)",
    ),
    "backward_transfer": (
        "backward transfer (BWT)",
        "after the last step less after its own, of the targets of earlier steps (equation 3)",
    ),
    "forward_transfer": (
        "forward transfer (FWT)",
        "just before its own step less the untouched base, of the targets of later steps "
        "(equation 4, whose baseline is a model without training)",
    ),
    "forgetting": (
        "forgetting",
        "the best after any step but the last, less after the last, of the targets of earlier "
        "steps (Chaudhry et al. 2018, equation 3)",
    ),
}
"""How the measures of stages/statistics/sequence.py are called, and what they are."""
MEASURED = ("measure", "value", "unit", "seed spread", "what it is")


def sequence_called(run: str) -> str:
    return f"{SEQUENCE}{OF_RUN}{run}"


def sequence_headline(found: SequenceResult) -> dict[str, float]:
    """For retention.json, among the keys of the last run."""
    measures = found.measures.items()
    return {name: _rounded(one.value) for name, one in measures if not isinstance(one, Undefined)}


def sequence_told(found: SequenceResult) -> dict[str, Any]:
    """For scores.json. `R`: by task, of the base and after each step."""
    told: dict[str, Any] = {
        "steps": list(found.steps),
        "learned": dict(found.learned),
        "R": {task: [_rounded(one) for one in row] for task, row in found.figures.items()},
    }
    for name, one in found.measures.items():
        if isinstance(one, Undefined):
            told[name] = {"undefined": one.reason}
            continue
        told[name] = {end: _rounded(getattr(one, end)) for end in ("value", "low", "high")}
        if name in found.spread:
            told[name]["seed_spread"] = _rounded(found.spread[name])
    return told


def sequence_rows(
    case: str, found: Mapping[str, SequenceResult], tasks: Mapping[str, Measure]
) -> Iterator[dict[str, Any]]:
    """For the heat map of `dvc plots`: a row a cell of R. `change`: against the base, positive =
    better."""
    for run, one in found.items():
        for task, figures in one.figures.items():
            sign = -1 if tasks[task].of_text else 1
            names = ["base", *(f"{name} (step {at})" for at, name in enumerate(one.steps, 1))]
            for name, figure in zip(names, figures, strict=True):
                yield {
                    "case": case,
                    "sequence": run,
                    "step": name,
                    "task": f"{task} ({_standing(one, task)})",
                    "measure": tasks[task].name,
                    "score": _rounded(figure),
                    "change": _rounded(sign * (figure - figures[0])),
                }


@dataclass(frozen=True)
class SequenceReport:
    """`head` over `rows`: R as a table. `measures`: name, value with its interval, unit, spread
    between seeds, and what it is; or why it is undefined."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    measures: tuple[tuple[str, str, str, str, str], ...]
    map: HeatMap


def sequence_report(found: SequenceResult, tasks: Mapping[str, Measure]) -> SequenceReport:
    units = {task: unit_of(tasks[task].name) for task in found.figures}
    columns = tuple(f"{task} ({_standing(found, task)}), {units[task].name}" for task in units)
    rows = tuple(
        (name, *(units[task].level(row[step]) for task, row in found.figures.items()))
        for step, name in enumerate(row_names(found))
    )
    return SequenceReport(
        name=found.steps[-1],
        head=("after", *columns),
        rows=rows,
        measures=tuple(_measures(found, units)),
        map=heat_map(found, tasks),
    )


def _standing(found: SequenceResult, task: str) -> str:
    step = found.learned.get(task)
    return f"step {step}" if step else "not learned"


def _measures(
    found: SequenceResult, units: Mapping[str, Unit]
) -> Iterator[tuple[str, str, str, str, str]]:
    for name, one in found.measures.items():
        called, what = DEFINED[name]
        if isinstance(one, Undefined):
            yield called, "-", "-", "-", f"{what}: undefined, {one.reason}"
            continue
        unit = units[found.counted[name][0]]
        level = name == "average_accuracy"
        shown = unit.level_between(one) if level else unit.change_between(one)
        spread = unit.level(found.spread[name]) if name in found.spread else "-"
        yield called, shown, "%" if level and unit is not BITS else unit.step, spread, what


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0
