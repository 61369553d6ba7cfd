"""A run's diagnosis in words: text of cells, from its part of diagnosis.json."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.units import BITS, Ends, Unit, ends_of
from stages.report.words import clipped
from stages.statistics.lost import TAUGHT

POINTS = Unit("points", "points", 100, 1)
PLAIN = Unit("", "", 1, 3)
LETTERS = 80
"""Of a part's name."""


@dataclass(frozen=True)
class Cause:
    cause: str
    evidence: str


@dataclass(frozen=True)
class Try:
    command: str
    because: str


@dataclass(frozen=True)
class Figure:
    """`interval` is empty where one figure is all there is."""

    name: str
    unit: str
    value: str
    interval: str
    says: str


@dataclass(frozen=True)
class Diagnosed:
    """`verdict`: surest cause first. `moved`: sentences. The others: rows of cells, a task first;
    `errors` a formula first."""

    verdict: tuple[Cause, ...]
    advice: tuple[Try, ...]
    errors: tuple[tuple[str, Figure], ...]
    moved: tuple[str, ...]
    outputs: tuple[tuple[str, str, str], ...]
    back: tuple[tuple[str, str, str, str, str], ...]
    calibration: tuple[tuple[str, str, str], ...]
    noise: tuple[tuple[str, str, str, str], ...]
    slices: tuple[tuple[str, str, str, int, str, str], ...]


@dataclass(frozen=True)
class Apart:
    """How far one task's texts are from training texts: a target's from its own, another's from
    those of all targets."""

    task: str
    n: int
    auc: str
    embeddings: str
    n_grams: str
    unknown: str
    words: str


def diagnosed(told: Mapping[str, Any], units: Mapping[str, Unit]) -> Diagnosed:
    """`units`: of the tasks."""
    return Diagnosed(
        verdict=tuple(Cause(**one) for one in told["verdict"]),
        advice=tuple(Try(one["command"], one["because"]) for one in told["advice"]),
        errors=tuple(_errors(told["errors"])),
        moved=tuple(_moved(told["moved"])),
        outputs=tuple(
            (task, one["measure"], PLAIN.level_between(ends_of(one)))
            for task, one in told["moved"]["outputs"].items()
        ),
        back=tuple(
            (
                task,
                *(units[task].level(one[level]) for level in ("before", "after", "relearned")),
                _back(one["share"]),
            )
            for task, one in told["moved"]["relearned"].items()
        ),
        calibration=tuple(
            (task, *(f"{one['before'][f]:.3f} to {one['after'][f]:.3f}" for f in ("ece", "brier")))
            for task, one in told["calibration"].items()
        ),
        noise=tuple(
            (
                one["task"],
                one["condition"],
                *(units[one["task"]].change(-one[side]) for side in ("before", "after")),
            )
            for one in told["noise"]
        ),
        slices=tuple(_slice(one, units[one["task"]]) for one in told["slices"]),
    )


def _back(share: float) -> str:
    """Of a loss, what came back: a share that says nothing is not shown as one."""
    if share >= TAUGHT:
        return "more than was lost: taught, not brought back"
    return f"{100 * share:.0f} %" if share > 0 else "none"


def _errors(told: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """With the formula of each."""
    scales = {"error rate": POINTS, "bits/byte": BITS}
    several = len({one["task"] for one in told}) > 1
    for one in told:
        unit = scales.get(one["unit"], PLAIN)
        value = "-" if one["value"] is None else unit.change(one["value"])
        interval = ""
        if one["low"] is not None:
            interval = f"[{unit.change(one['low'])}, {unit.change(one['high'])}]"
        name = f"{one['error']}, {one['task']}" if several else one["error"]
        name = name if one["seed"] == 0 else f"{name}, seed {one['seed']}"
        named = "points of error" if unit is POINTS else one["unit"]
        yield one["formula"], Figure(name, named, value, interval, one["says"])


def _moved(told: Mapping[str, Any]) -> Iterator[str]:
    spectral = told["spectral"]
    inner = f", in its largest singular value by {100 * spectral:.2f} %" if spectral else ""
    yield f"The median weight matrix moved by {100 * told['weight']:.2f} % of its size{inner}."
    if told["largest"]:
        most = ", ".join(
            f"{one['module']}{'' if one['layer'] < 0 else ' of layer ' + str(one['layer'])} "
            f"({100 * one['value']:.1f} %)"
            for one in told["largest"]
        )
        yield f"Most moved {most}."
    if told["cka"]:
        layers = ", ".join(f"{value:.3f}" for value in told["cka"])
        yield f"Likeness of states (linear CKA), embeddings first, then layer by layer: {layers}."


def _slice(one: Mapping[str, Any], unit: Unit) -> tuple[str, str, str, int, str, str]:
    change = unit.change_between(Ends(-one["drop"], -one["high"], -one["low"]))
    return (
        one["task"],
        one["cut"],
        clipped(one["name"], LETTERS),
        one["n"],
        f"{change} {unit.step}",
        f"{one['p']:.2g}",
    )


def apart(shift: Mapping[str, Any]) -> Iterator[Apart]:
    for task, one in shift["comparisons"].items():
        yield Apart(
            task=task,
            n=one["n"],
            auc=f"{one['auc']:.2f} ± {1.96 * one['auc_error']:.2f}",
            embeddings=f"{one['embeddings']:.3f}",
            n_grams=f"{one['n_grams']:.2f}",
            unknown=f"{100 * one['unknown_words']:.0f} %",
            words=f"{one['words_there']:.0f} to {one['words']:.0f}",
        )
