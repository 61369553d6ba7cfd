"""Where the lines of a drawing run: plain numbers, which report.html.jinja puts into SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.lines import Line

BAR_WIDTH, CHART_WIDTH, CHART_HEIGHT = 160, 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 26
"""Room around a chart's plane, for its axes."""


@dataclass(frozen=True)
class Bar:
    """A change with its interval, from worse (left) to better (right) of `zero`."""

    width: int
    zero: float
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """`points`: as SVG's polyline has them. `style`: its number among the chart's styles."""

    name: str
    style: int
    points: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    width: int
    height: int
    left: int
    right: float
    top: int
    bottom: float
    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def bars(lines: Iterable[Line]) -> list[Bar]:
    """One a line. Lines whose changes are counted alike share a scale."""
    listed = list(lines)
    reach: dict[str, float] = {}
    for line in listed:
        far = max(abs(line.change.low), abs(line.change.high))
        reach[line.unit.step] = max(far, reach.get(line.unit.step, 0.0))
    return [_bar(line, reach[line.unit.step] or 1.0) for line in listed]


def _bar(line: Line, reach: float) -> Bar:
    half = BAR_WIDTH / 2
    low, value, high = (
        round(half + (half - 5) * end / reach, 1)
        for end in (line.change.low, line.change.value, line.change.high)
    )
    return Bar(BAR_WIDTH, half, low, value, high)


def chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Loss over steps, a curve for each `curve` of the rows that `dvc plots` gets too."""
    across = ticks(0, max(row["step"] for row in rows))
    losses = [row["loss"] for row in rows]
    up = ticks(min(losses), max(losses))
    right, bottom = CHART_WIDTH - RIGHT, CHART_HEIGHT - BOTTOM

    def x(step: float) -> float:
        return round(LEFT + (right - LEFT) * step / max(across[-1], 1), 1)

    def y(loss: float) -> float:
        return round(bottom - (bottom - TOP) * (loss - up[0]) / (up[-1] - up[0]), 1)

    curves = []
    for style, name in enumerate(dict.fromkeys(row["curve"] for row in rows)):
        dots = tuple((x(row["step"]), y(row["loss"])) for row in rows if row["curve"] == name)
        curves.append(Curve(name, style, " ".join(f"{a},{b}" for a, b in dots), dots))
    return Chart(
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        curves=tuple(curves),
        across=tuple(Tick(x(value), f"{value:g}") for value in across),
        up=tuple(Tick(y(value), f"{value:g}") for value in up),
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from at or below `low` to at or above `high`, in steps of 1, 2 or 5."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(unit * m for m in (1, 2, 5, 10, 20) if span / (unit * m) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * at, 10) for at in range(first, max(last, first + 1) + 1)]
