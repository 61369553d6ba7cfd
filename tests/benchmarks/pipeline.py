"""How long each stage takes in two checkouts of the project, as at two commits.

`python -m tests.benchmarks.pipeline <earlier> <later>`: stage after stage, each in both before the
next, so that a machine whose speed changes is as slow for both. `--only` takes some of them, whose
deps must be there. Outs and dvc.lock of both checkouts are written anew.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """`seconds` on the clock, `busy` of the processor's."""

    seconds: float
    busy: float


def dvc(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},  # stages call `python`
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{folder}: dvc {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def stages(folder: Path) -> list[str]:
    return dvc(folder, "stage", "list", "--name-only").split()


def measure(folder: Path, stage: str) -> Cost:
    """With the start of DVC, and with the hashing of what was written."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    dvc(folder, "repro", "--quiet", "--single-item", "--force", stage)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, busy)


def compare(folders: Sequence[Path], only: Sequence[str]) -> None:
    """Prints a line a stage, and one of all."""
    earlier, later = map(stages, folders)
    if set(earlier) != set(later):
        sys.exit(f"stages of one alone: {', '.join(sorted(set(earlier) ^ set(later)))}")
    if unknown := sorted(set(only) - set(later)):
        sys.exit(f"--only {','.join(unknown)}: no such stage")
    found = []
    print(f"{'stage':<42} {'earlier':>8} {'later':>8} {'ratio':>6} {'of processor':>12}")
    for number, stage in enumerate(name for name in later if not only or name in only):
        order = (0, 1) if number % 2 else (1, 0)
        costs = {side: measure(folders[side], stage) for side in order}
        found.append((costs[0], costs[1]))
        print(line(stage, costs[0], costs[1]), flush=True)
    print(line("all", *map(total, zip(*found, strict=True))))


def total(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.seconds for cost in costs), sum(cost.busy for cost in costs))


def line(name: str, earlier: Cost, later: Cost) -> str:
    ratio, busy = later.seconds / earlier.seconds, later.busy / earlier.busy
    return f"{name:<42} {earlier.seconds:>8.1f} {later.seconds:>8.1f} {ratio:>6.2f} {busy:>12.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("later", type=Path)
    parser.add_argument("--only", default="", help="names of stages, with commas")
    given = parser.parse_args()
    compare((given.earlier, given.later), given.only.split(",") if given.only else [])


if __name__ == "__main__":
    main()
