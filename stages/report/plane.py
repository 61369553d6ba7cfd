"""The frontier as a drawing: drop over gain, a curve a method, with the intervals of its points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.figures import BOTTOM, LEFT, RIGHT, TOP, Tick, ticks
from stages.report.units import BITS, CORRECT

WIDTH, HEIGHT, STYLES = 560, 300, 8


@dataclass(frozen=True)
class Mark:
    """A point and the ends of its intervals."""

    name: str
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Course:
    """A method's curve. `points`: as SVG's polyline has them. `style`: among the chart's styles."""

    name: str
    style: int
    points: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Plane:
    width: int
    height: int
    left: int
    right: float
    bottom: float
    curves: tuple[Course, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    unit: str


def plane(rows: Sequence[Mapping[str, Any]], of_text: bool) -> Plane:
    """Of the rows that `dvc plots` gets too. `of_text`: the gain is in bits per byte."""
    unit = BITS if of_text else CORRECT
    across = ticks(*_reach(rows, "gain", unit.scale))
    up = ticks(*_reach(rows, "drop", CORRECT.scale))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(gain: float) -> float:
        return round(
            LEFT + (right - LEFT) * (unit.scale * gain - across[0]) / (across[-1] - across[0]), 1
        )

    def y(drop: float) -> float:
        return round(bottom - (bottom - TOP) * (CORRECT.scale * drop - up[0]) / (up[-1] - up[0]), 1)

    curves = []
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        of_method = sorted(
            (row for row in rows if row["method"] == method), key=lambda row: row["gain"]
        )
        marks = tuple(
            Mark(
                name=row["model"],
                x=x(row["gain"]),
                y=y(row["drop"]),
                left=x(row["gain_low"]),
                right=x(row["gain_high"]),
                top=y(row["drop_high"]),
                bottom=y(row["drop_low"]),
            )
            for row in of_method
        )
        points = " ".join(f"{mark.x},{mark.y}" for mark in marks)
        # The solid styles first: they are the odd ones.
        style = (2 * number + 1) % STYLES if number < STYLES // 2 else 2 * number % STYLES
        curves.append(Course(method, style, points, marks))
    return Plane(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        bottom=bottom,
        curves=tuple(curves),
        across=tuple(Tick(x(value / unit.scale), f"{value:g}") for value in across),
        up=tuple(Tick(y(value / CORRECT.scale), f"{value:g}") for value in up),
        unit=unit.step,
    )


def _reach(rows: Sequence[Mapping[str, Any]], side: str, scale: float) -> tuple[float, float]:
    ends = [scale * row[f"{side}{end}"] for row in rows for end in ("_low", "_high")]
    return min(ends), max(ends)
