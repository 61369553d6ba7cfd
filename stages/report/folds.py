"""Cross-validation in files and in words."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from stages.report.units import unit_of
from stages.statistics.folds import Spread, Validated
from stages.statistics.results import About

DECIMALS = 4


def figures(one: Validated) -> dict[str, Any]:
    """For scores.json."""
    return {
        key: value if isinstance(value, int) else _rounded(value)
        for key, value in asdict(one).items()
    }


def _rounded(spread: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, DECIMALS) + 0.0 for key, value in spread.items()}


def told(found: Mapping[str, Validated], tasks: Mapping[str, About]) -> Iterator[str]:
    """A sentence a target."""
    for task, one in found.items():
        unit = unit_of(tasks[task].measure.name)

        def level(spread: Spread, unit: Any = unit) -> str:
            return f"{unit.level(spread.mean)} (± {unit.level(spread.spread)})"

        gain = f"{unit.change(one.gain.mean)} (± {unit.level(one.gain.spread)})"
        yield (
            f"{task}: {level(one.after)} {unit.name} on the rows that each of {one.models} models "
            f"was not trained on, the base {level(one.before)}; gain {gain} {unit.step}"
        )
