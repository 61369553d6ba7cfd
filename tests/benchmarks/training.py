"""Our training loop beside transformers' Trainer: the same model, rows, optimizer and schedule.

`python -m tests.benchmarks.training --help`; README.md says what the columns mean.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import errors
from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.storage import read_json, write_json

from .table import aligned, mib, say
from .table import profile as profile_table

if TYPE_CHECKING:
    from stages.training.recipe import Recipe

    from .trained import Trained

OURS, COMPILED, TRAINER = "ours", "ours, compiled", "Trainer"


def compare(
    config: dict[str, Any],
    precisions: Sequence[str],
    learned: float | None,
    compiled: bool,
    threads: int,
    rounds: int,
) -> dict[str, list["Trained"]]:
    """Ours, also `compiled` where asked for, and Trainer with each precision, in turn, each
    training in a new process."""
    own = (OURS, COMPILED) if compiled else (OURS,)
    asked = dict.fromkeys(own, config) | {
        f"{TRAINER}, {one}": {**config, "precision": one} for one in precisions
    }
    found: dict[str, list[Trained]] = {side: [] for side in asked}
    for _ in range(rounds):
        for side, of_side in asked.items():
            with _process() as process:
                told = process.submit(_train, side, of_side, learned, threads).result()
            found[side].append(told)
            say(f"{side}: {told.labelled / told.seconds:.1f} labelled a second")
    return found


def profile(
    run: str, config: dict[str, Any], learned: float | None, threads: int
) -> dict[str, Any]:
    """Where our side's time goes, for `table.profile`."""
    with _process() as process:
        told, operators = process.submit(_profile, config, learned, threads).result()
    of_run = {"operators": operators, "operations": told.operations}
    return {
        "dtype": config["precision"],
        "threads": threads,
        "matrix_rate": told.matrix_rate,
        "peak_resets": True,
        "tasks": {run: of_run},
    }


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _recipe(config: dict[str, Any], threads: int) -> "Recipe":
    """In a process of its own, the only one that imports torch."""
    import torch

    from . import trained

    torch.set_num_threads(threads)
    os.environ["TQDM_DISABLE"] = "1"
    return trained.recipe_of(config)


def _profile(
    config: dict[str, Any], learned: float | None, threads: int
) -> tuple["Trained", dict[str, float]]:
    from . import trained

    return trained.profiled(_recipe(config, threads), learned)


def _train(side: str, config: dict[str, Any], learned: float | None, threads: int) -> "Trained":
    from . import trained

    if side == COMPILED:
        os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # the first step compiles
    recipe = _recipe(config, threads)
    if side in (OURS, COMPILED):
        return trained.ours(recipe, learned, side == COMPILED)
    return trained.trainer(recipe, learned)


def summary(found: dict[str, list["Trained"]]) -> dict[str, dict[str, Any]]:
    """Of each side, and the ratio of ours to it."""
    seconds = {
        side: statistics.median(one.seconds for one in rounds) for side, rounds in found.items()
    }
    ours = found[OURS][0]
    return {
        side: {
            "labelled": rounds[0].labelled / seconds[side],
            "tokens": rounds[0].tokens / seconds[side],
            "ratio": seconds[side] / seconds[OURS],
            "first": statistics.median(one.first for one in rounds),
            "peak": max(one.peak for one in rounds),
            "loaded": rounds[0].loaded,
            "utilisation": rounds[0].operations
            / seconds[side]
            / max(one.matrix_rate for one in rounds),
            "losses": rounds[0].losses,
            "apart": max(
                abs(own - other) for own, other in zip(ours.losses, rounds[0].losses, strict=True)
            ),
        }
        for side, rounds in found.items()
    }


def table(found: dict[str, dict[str, Any]], of: str) -> str:
    """A line a side, and the loss of each step."""
    rows: list[tuple[str, ...]] = [
        (
            "side",
            "labelled/s",
            "tokens/s",
            "ratio",
            "first s",
            "peak MiB",
            "loaded MiB",
            "utilisation",
            "|d loss|",
        )
    ]
    for side, told in found.items():
        speeds = f"{told['labelled']:.1f}", f"{told['tokens']:.1f}"
        times = f"{told['ratio']:.2f}x", f"{told['first']:.1f}"
        memory = mib(told["peak"]), mib(told["loaded"])
        near = f"{told['utilisation']:.1%}", f"{told['apart']:.1e}"
        rows.append((side, *speeds, *times, *memory, *near))
    curves = [
        (f"loss, {side}", *(f"{loss:.4f}" for loss in told["losses"]))
        for side, told in found.items()
    ]
    return "\n".join([of, *aligned(rows), *aligned(curves)])


def _config(run: str, steps: int, batch_size: int | None) -> RunConfig:
    """The run's, without its methods, and looked at as seldom as can be."""
    config = read_run(run)
    never = {"steps": steps, "validate_every": steps, "checkpoint_every": steps}
    few = {"validation_rows": 10, "methods": {}, "snapshots": (), "folds": None}
    size = {"batch_size": batch_size or config.batch_size}
    return RunConfig(**{**config.model_dump(), **never, **few, **size, "pool": "target"})


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training")
    parser.add_argument("--run", required=True, help="of params.yaml; its case is prepared")
    parser.add_argument(
        "--learned",
        type=float,
        help="the last share of each row that is; as its task, if not given",
    )
    parser.add_argument("--steps", type=int, default=12, help="of each training, 2 or more")
    parser.add_argument("--batch-size", type=int, help="the run's, if not given")
    parser.add_argument(
        "--precisions",
        type=lambda text: text.split(","),
        default=["fp32", "bf16"],
        help="of Trainer, by default fp32,bf16",
    )
    parser.add_argument("--profile", action="store_true", help="ours, by operator of torch")
    parser.add_argument("--compiled", action="store_true", help="ours also by torch.compile")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1, help="seconds are their median")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    asked = parser.parse_args(arguments)
    if asked.steps < 2:
        raise UserError(f"--steps {asked.steps}: the first is not timed; give 2 or more")
    for name, number in (("threads", asked.threads), ("rounds", asked.rounds)):
        if number < 1:
            raise UserError(f"--{name} {number}: give 1 or more")
    if asked.learned is not None and not 0 < asked.learned <= 1:
        raise UserError(f"--learned {asked.learned}: give more than 0, 1 at most")
    config = _config(asked.run, asked.steps, asked.batch_size)
    manifest = Path(f"models/base/{config.case}.json")
    if not manifest.exists():
        raise UserError(f"{manifest}: not there; run `dvc repro prepare@{config.case}`")
    if asked.learned is not None and read_json(manifest)["kind"] == "encoder":
        raise UserError(f"--learned: {asked.run} tunes an encoder, which has no prompts")
    if asked.profile:
        watched = profile(asked.run, config.model_dump(), asked.learned, asked.threads)
        print(profile_table(watched))
        if asked.json:
            write_json(asked.json, watched)
        return
    found = summary(
        compare(
            config.model_dump(),
            asked.precisions,
            asked.learned,
            asked.compiled,
            asked.threads,
            asked.rounds,
        )
    )
    learned = "" if asked.learned is None else f", {asked.learned:.0%} of each row learned"
    shape = f"{asked.run}: {asked.steps} steps of {config.batch_size} rows{learned}"
    print(table(found, f"{shape}, {asked.threads} threads"))
    if asked.json:
        write_json(asked.json, found)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
