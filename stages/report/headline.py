"""The answer in one table: what was gained, what was lost, is it real.

`python -m stages.report.headline` prints it from metrics/scores.json.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from stages import errors
from stages.errors import UserError
from stages.report.gate import gate_lines, summary
from stages.report.lines import COLUMNS, lines, of_runs
from stages.report.ranking import ranking
from stages.storage import read_json

SCORES, GATE = Path("metrics/scores.json"), Path("metrics/gate.json")
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


def _verdict(run: str, told: Mapping[str, Any]) -> str:
    return summary(list(gate_lines(run, told)), told["verdict"])


def main() -> None:
    for path in (SCORES, GATE):
        if not path.exists():
            raise UserError(f"{path}: not there; run `dvc repro`")
    gates = read_json(GATE)["cases"]
    for case, of_case in read_json(SCORES).items():
        found = lines(of_runs(of_case))
        told = "change [interval] in the row's unit, + is better" if found else "no runs"
        print(f"\n{case}: {told}")
        if found:
            print(text_table([line.cells() for line in found]))
            if ranked := ranking(found):
                print(fill(ranked, WIDTH, subsequent_indent="  "))
            for run, told in gates.get(case, {}).items():
                print(fill(f"gate: {run}: {_verdict(run, told)}", WIDTH, subsequent_indent="  "))
    print("\nreport: metrics/report.html (in brief: metrics/report.md)")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
