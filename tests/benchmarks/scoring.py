"""Our scorer beside lm-evaluation-harness's `hf`: the same model, tasks, dtype and threads.

`python -m tests.benchmarks.scoring --help`; README.md says what the columns mean.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from stages import errors
from stages.errors import UserError
from stages.storage import write_json

from . import table
from .differences import difference, ties
from .exchange import Outcome, Settings
from .remote import Remote
from .table import say

WARM = 2
"""Examples that are scored before a task is timed: what comes first pays for what is set up."""


def compare(
    ours: Remote, theirs: Remote, exact: Remote | None, asked: argparse.Namespace
) -> dict[str, Any]:
    """Both sides in turn, never at once. `exact`: lm-eval in float64, asked once."""
    loaded = {"ours": ours.about().loaded, "lm-eval": theirs.about().loaded}
    found = {**_about(ours, asked), "loaded": loaded, "tasks": {}}
    for name in _tasks(ours, asked):
        ours.restart()
        theirs.restart()
        ours.score(name, WARM)
        search, batch_size = _best_batch_size(theirs, name, asked)
        rounds = [
            (ours.score(name, asked.limit), theirs.score(name, asked.limit, batch_size))
            for _ in range(asked.rounds)
        ]
        sides = [_summary(side, found["matrix_rate"]) for side in zip(*rounds, strict=True)]
        found["tasks"][name] = {
            "examples": len(rounds[0][0].answers),
            "batch_size": batch_size,
            "search": search,
            "ours": sides[0],
            "lm-eval": sides[1],
            "ratio": sides[1]["seconds"] / sides[0]["seconds"],
            "difference": difference(*rounds[0]),
        }
        if exact is not None:
            reference = exact.score(name, asked.limit, 1)
            for side, outcome in zip(("ours", "lm-eval"), rounds[0], strict=True):
                found["tasks"][name][side]["from_exact"] = difference(outcome, reference)
        say(f"{name}: {sides[0]['seconds']:.2f} s, lm-eval {sides[1]['seconds']:.2f} s")
    return found


def scale(ours: Remote, asked: argparse.Namespace) -> dict[str, Any]:
    """Our side on a quarter of the examples and on all."""
    found = {**_about(ours, asked), "tasks": {}}
    for name in _tasks(ours, asked):
        examples = min(ours.examples(name), asked.limit or sys.maxsize)
        few = examples // 4
        if not few:
            raise UserError(f"task {name}: {examples} examples; --scaling needs 4 or more")
        ours.restart()
        ours.score(name, WARM)
        rounds = [(ours.score(name, few), ours.score(name, 4 * few)) for _ in range(asked.rounds)]
        sides = [
            {"examples": size, **_summary(side, found["matrix_rate"])}
            for size, side in zip((few, 4 * few), zip(*rounds, strict=True), strict=True)
        ]
        ratio = sides[1]["seconds"] / sides[0]["seconds"]
        found["tasks"][name] = {"few": sides[0], "many": sides[1], "ratio": ratio}
        say(f"{name}: {ratio:.2f}x for 4x")
    return found


def profile(ours: Remote, asked: argparse.Namespace) -> dict[str, Any]:
    """Where our side's time goes."""
    found = {**_about(ours, asked), "tasks": {}}
    for name in _tasks(ours, asked):
        ours.score(name, WARM)
        watched = ours.profile(name, asked.limit)
        found["tasks"][name] = {"operators": watched.operators, "operations": watched.operations}
    return found


def _about(side: Remote, asked: argparse.Namespace) -> dict[str, Any]:
    about = side.about()
    return {
        "dtype": about.dtype,
        "threads": asked.threads,
        "matrix_rate": side.matrix_rate(),
        "peak_resets": about.peak_resets,
    }


def _tasks(side: Remote, asked: argparse.Namespace) -> Sequence[str]:
    there = side.about().tasks
    if not there:
        raise UserError(f"--tasks {asked.tasks}: no task of lm-eval is described there")
    if asked.only is None:
        return there
    if unknown := [name for name in asked.only if name not in there]:
        raise UserError(f"--only {unknown[0]}: no such task; there are {', '.join(there)}")
    return [name for name in there if name in asked.only]


def _best_batch_size(
    side: Remote, name: str, asked: argparse.Namespace
) -> tuple[dict[int, float], int]:
    """Seconds of each candidate on enough examples to fill the largest; and the fastest."""
    limit = min(max(asked.batch_sizes), asked.limit or sys.maxsize)
    side.score(name, WARM, asked.batch_sizes[0])
    search = {size: side.score(name, limit, size).seconds for size in asked.batch_sizes}
    return search, min(search, key=lambda size: search[size])


def _summary(rounds: Sequence[Outcome], matrix_rate: float) -> dict[str, Any]:
    first = rounds[0]
    seconds = statistics.median(outcome.seconds for outcome in rounds)
    return {
        "seconds": seconds,
        "rounds": [outcome.seconds for outcome in rounds],
        "tokens": first.tokens,
        "states": first.states,
        "operations": first.operations,
        "utilisation": first.operations / seconds / matrix_rate,
        "peak": max(outcome.peak for outcome in rounds),
        "metrics": first.metrics,
        "ties": ties(first),
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scoring")
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal model")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of lm-eval YAML")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--against", choices=["lm-eval"], help="beside lm-eval's hf")
    mode.add_argument("--scaling", action="store_true", help="ours, at n and 4n examples")
    mode.add_argument("--profile", action="store_true", help="ours, by operator of torch")
    parser.add_argument("--exact", action="store_true", help="lm-eval in float64 too, for errors")
    parser.add_argument("--dtype", choices=["fp32", "bf16", "auto"], default="fp32")
    parser.add_argument("--threads", type=_positive, default=os.cpu_count())
    parser.add_argument(
        "--batch-sizes",
        type=lambda text: [_positive(size) for size in text.split(",")],
        default=[8, 16, 32],
        help="lm-eval's candidates, by default 8,16,32; the fastest is used",
    )
    parser.add_argument("--limit", type=_positive, help="examples of each task, at most")
    parser.add_argument("--only", type=lambda text: text.split(","), help="tasks, by name")
    parser.add_argument("--rounds", type=_positive, default=1, help="seconds are their median")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _environment(cache: str, threads: int) -> dict[str, str]:
    """Of the sides' processes."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),  # the tokenizer's
        "HF_DATASETS_CACHE": cache,
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }


def main(*arguments: str) -> None:
    asked = _parse(arguments)
    for option in ("model", "tasks"):
        if not getattr(asked, option).is_dir():
            raise UserError(f"--{option} {getattr(asked, option)}: no such folder")
    if asked.exact and not asked.against:
        raise UserError("--exact goes with --against lm-eval")
    given = (asked.model.resolve(), asked.tasks.resolve())
    with tempfile.TemporaryDirectory() as cache, ExitStack() as stack:
        os.environ.update(_environment(cache, asked.threads))

        def side(ours: bool, precision: str) -> Remote:
            return stack.enter_context(
                closing(Remote(Settings(ours, *given, precision, asked.threads)))
            )

        ours = side(True, asked.dtype)
        if asked.scaling:
            found, shown = scale(ours, asked), table.scaling
        elif asked.profile:
            found, shown = profile(ours, asked), table.profile
        else:
            exact = side(False, "fp64") if asked.exact else None
            found = compare(ours, side(False, asked.dtype), exact, asked)
            shown = table.comparison
    print(shown(found))
    if asked.json:
        write_json(asked.json, found)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
