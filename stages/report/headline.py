"""The answer in one table: what was gained, what was lost, is it real.

`python -m stages.report.headline` prints it from metrics/scores.json.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages import errors
from stages.errors import UserError
from stages.storage import read_json

SCORES = Path("metrics/scores.json")
COLUMNS = ("run", "task", "before", "after", "change", "real?")
HEADLINES = ("accuracy", "hit_at_1")


def rows(of_case: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line a run and task, from the case's part of scores.json; accuracies in per cent.

    The change is in points, positive = better whatever the role.
    """
    base = of_case["base"]
    for run, tasks in of_case.items():
        if run == "base":
            continue
        for task, found in tasks.items():
            metric = next(name for name in HEADLINES if name in found)
            sign, change = (1, found["gain"]) if "gain" in found else (-1, found["drop"])
            low, high = sorted((sign * change["low"], sign * change["high"]))
            yield (
                run,
                task if sign < 0 else f"{task} (target)",
                f"{100 * base[task][metric]['value']:.1f}",
                f"{100 * found[metric]['value']:.1f}",
                f"{100 * sign * change['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
                "yes" if change["real"] else "no",
            )


def text_table(lines: list[tuple[str, ...]]) -> str:
    """Columns padded for a terminal; a run's name stands in its first line only."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = []
    previous = ""
    for line in lines:
        cells = ("" if line[0] == previous else line[0], *line[1:])
        previous = line[0]
        shown.append(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        )
    return "\n".join(line.rstrip() for line in shown)


def main() -> None:
    if not SCORES.exists():
        raise UserError(f"{SCORES}: not there; run `dvc repro`")
    for case, of_case in read_json(SCORES).items():
        print(f"\n{case}: accuracy in per cent, change in points [interval], + is better")
        print(text_table([COLUMNS, *rows(of_case)]))
    print("\nreport: metrics/report.md")


if __name__ == "__main__":
    errors.run(main)
