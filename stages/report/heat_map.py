"""The matrix R of a sequence as a drawing: plain numbers, which templates put into SVG."""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.report.units import unit_of
from stages.statistics.measures import Measure
from stages.statistics.sequence import SequenceResult

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 92, 26, 150, 34
FAINT = 0.6
"""The strongest shade, on which text can still be read."""


@dataclass(frozen=True)
class Cell:
    """`text`: the figure. `tone` and `strength`, 0 to 1: of its change against the base. `own`:
    after the step that learned the task."""

    x: int
    y: int
    text: str
    tone: str
    strength: float
    own: bool


@dataclass(frozen=True)
class HeatMap:
    """`across`, `down`: names of columns and rows, and where they stand."""

    width: int
    height: int
    cell_width: int
    cell_height: int
    across: tuple[tuple[int, tuple[str, ...]], ...]
    down: tuple[tuple[int, str], ...]
    cells: tuple[Cell, ...]


def heat_map(found: SequenceResult, tasks: Mapping[str, Measure]) -> HeatMap:
    """A column a task, a row the base and each step; shaded by the change against the base, tasks
    in one unit by one scale."""
    units = {task: unit_of(tasks[task].name) for task in found.figures}
    better = {
        task: [(row[0] - one if tasks[task].of_text else one - row[0]) for one in row]
        for task, row in found.figures.items()
    }
    reach: dict[str, float] = {}
    for task, changes in better.items():
        step = units[task].step
        reach[step] = max(reach.get(step, 0.0), *map(abs, changes))
    cells = tuple(
        Cell(
            x=LEFT + at * CELL_WIDTH,
            y=TOP + step * CELL_HEIGHT,
            text=units[task].level(found.figures[task][step]),
            tone="better" if change > 0 else "worse" if change < 0 else "unclear",
            strength=round(FAINT * abs(change) / (reach[units[task].step] or 1.0), 3),
            own=found.learned.get(task) == step,
        )
        for at, (task, changes) in enumerate(better.items())
        for step, change in enumerate(changes)
    )
    names = row_names(found)
    return HeatMap(
        width=LEFT + len(better) * CELL_WIDTH + 2,
        height=TOP + len(names) * CELL_HEIGHT + 2,
        cell_width=CELL_WIDTH,
        cell_height=CELL_HEIGHT,
        across=tuple(
            (LEFT + at * CELL_WIDTH + CELL_WIDTH // 2, (_short(task, 15), units[task].name))
            for at, task in enumerate(better)
        ),
        down=tuple(
            (TOP + step * CELL_HEIGHT + CELL_HEIGHT // 2 + 4, _short(name, 24))
            for step, name in enumerate(names)
        ),
        cells=cells,
    )


def row_names(found: SequenceResult) -> tuple[str, ...]:
    """Names of the rows of R."""
    return ("base", *(f"{step} {name}" for step, name in enumerate(found.steps, start=1)))


def _short(name: str, most: int) -> str:
    """Without its middle: names differ at their ends."""
    if len(name) <= most:
        return name
    tail = most // 2
    return f"{name[: most - tail - 1]}\u2026{name[-tail:]}"
