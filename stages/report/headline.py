"""The answer in one table: what was gained, what was lost, is it real.

`python -m stages.report.headline` prints it from metrics/scores.json.
"""

from collections.abc import Sequence
from pathlib import Path

from stages import errors
from stages.errors import UserError
from stages.report.lines import COLUMNS, lines
from stages.storage import read_json

SCORES = Path("metrics/scores.json")
WIDTH = 100
NAMES = (16, 24)
"""What is left of the names of runs and tasks where the table is wider than WIDTH."""
RIGHT = ("before", "after")


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under COLUMNS, padded for a terminal; a run's name stands in its first row only."""
    shown = [list(COLUMNS), *([*row] for row in rows)]
    if sum(_widths(shown)) + 2 * (len(COLUMNS) - 1) > WIDTH:
        for row in shown:
            row[:2] = [_middle(text, most) for text, most in zip(row[:2], NAMES, strict=True)]
    widths = _widths(shown)
    printed, previous = [], ""
    for row in shown:
        run = row[0]
        cells = ["" if run == previous else run, *row[1:]]
        previous = run
        padded = [
            text.rjust(width) if name in RIGHT else text.ljust(width)
            for name, text, width in zip(COLUMNS, cells, widths, strict=True)
        ]
        printed.append("  ".join(padded).rstrip())
    return "\n".join(printed)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _middle(text: str, most: int) -> str:
    """`text` without its middle: names differ at their ends."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}\u2026{text[-tail:]}"


def main() -> None:
    if not SCORES.exists():
        raise UserError(f"{SCORES}: not there; run `dvc repro`")
    for case, of_case in read_json(SCORES).items():
        found = lines(of_case)
        told = "change [interval] in the row's unit, + is better" if found else "no runs"
        print(f"\n{case}: {told}")
        if found:
            print(text_table([line.cells() for line in found]))
    print("\nreport: metrics/report.html (in brief: metrics/report.md)")


if __name__ == "__main__":
    errors.run(main)
