"""What each method costs: seconds a step beside full fine-tuning, and seconds before the first.

`python -m tests.benchmarks.methods --help`; README.md says what the columns mean.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from stages import errors
from stages.config.reading import load, lookup
from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.finetune import check_fit
from stages.storage import read_json, write_json
from stages.tasks.examples import Examples
from stages.training.methods.method import Method
from stages.training.methods.table import chosen
from stages.training.recipe import Recipe, read_recipe
from stages.training.run import train_seed
from stages.training.subject import Subject

from .scratch import scratch
from .table import say
from .tried import TRIED, Tried

FULL = "full"


class Turns:
    """Two trainings, of which one goes on at a time: a step each."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._turn: int | None = 0
        self._left = {0, 1}

    def wait(self, who: int) -> None:
        with self._free:
            self._free.wait_for(lambda: self._turn == who)

    def give(self, who: int) -> None:
        """Let the other go on, if there is one left."""
        with self._free:
            self._turn = 1 - who if 1 - who in self._left else who
            self._free.notify_all()

    def leave(self, who: int) -> None:
        with self._free:
            self._left.discard(who)
            self._turn = 1 - who
            self._free.notify_all()


class Stopwatch(Method):
    """Looks at the clock where a run calls its methods, and waits for its turn. It stands before
    all others and after them."""

    name: ClassVar[str] = "stopwatch"
    _turns: Turns = PrivateAttr()
    _who: int = PrivateAttr()
    _began: list[float] = PrivateAttr(default_factory=list)
    _composed: list[float] = PrivateAttr(default_factory=list)
    _went: float = PrivateAttr(default=0.0)
    _seconds: dict[int, float] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, turns: Turns, who: int) -> "Stopwatch":
        watch = cls()
        watch._turns, watch._who = turns, who
        return watch

    def rewrite(self, examples: Examples, seed: int) -> Examples:
        self._began.append(time.perf_counter())
        return examples

    def adapt(self, subject: Subject) -> None:
        self._composed.append(time.perf_counter())

    def after_step(self, subject: Subject, step: int) -> None:
        """Called twice a step, before and after the others' own."""
        if step in self._seconds:
            self._seconds[step] = time.perf_counter() - self._went
            self._turns.give(self._who)
            self._turns.wait(self._who)
            self._went = time.perf_counter()
        else:
            self._seconds[step] = 0.0

    @property
    def composing(self) -> float:
        """Seconds from the model, loaded, to the objective, ready."""
        return self._composed[-1] - self._began[0]

    @property
    def steps(self) -> list[float]:
        """Seconds of each step but the first, which also pays for memory."""
        return [seconds for step, seconds in sorted(self._seconds.items()) if step]


def measure(full: Recipe, own: Recipe) -> tuple[Stopwatch, Stopwatch]:
    """Train both by the pipeline's own loop, a step of one after a step of the other."""
    gc.collect()  # a model goes in a circle with its hooks, and would be there still
    turns = Turns()

    watches = [Stopwatch.of(turns, who) for who in range(2)]
    failed: list[BaseException] = []

    def train(who: int, recipe: Recipe) -> None:
        turns.wait(who)
        try:
            methods = [watches[who], *chosen(recipe.name, recipe.config), watches[who]]
            with tempfile.TemporaryDirectory() as folder:
                train_seed(recipe, methods, 0, checkpoints[who], Path(folder))
        except BaseException as error:
            failed.append(error)
        finally:
            turns.leave(who)

    # Daemons do not keep a process that is told to end.
    threads = [
        threading.Thread(target=train, args=one, daemon=True) for one in enumerate((full, own))
    ]
    with scratch() as checkpoints:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return watches[0], watches[1]


def compare(recipes: dict[str, Recipe], rounds: int) -> dict[str, dict[str, Any]]:
    """Each method beside full fine-tuning."""
    pairs: dict[str, list[tuple[Stopwatch, Stopwatch]]] = {name: [] for name in recipes}
    measure(recipes[FULL], recipes[FULL])  # what comes first pays for what is set up
    for _ in range(rounds):
        for name, recipe in recipes.items():
            pairs[name].append(measure(recipes[FULL], recipe))
            told = _summary(pairs[name][-1:])
            say(f"{name}: {told['step']:.3f} s a step, {told['ratio']:.2f} of full")
    return {name: _summary(of_method) for name, of_method in pairs.items()}


def _summary(pairs: Sequence[tuple[Stopwatch, Stopwatch]]) -> dict[str, Any]:
    ratios = [
        own / full
        for one in pairs
        for full, own in zip(one[0].steps, one[1].steps, strict=False)  # one may have stopped early
    ]
    low, middle, high = (float(one) for one in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return {
        "step": statistics.median(step for _, own in pairs for step in own.steps),
        "ratio": middle,
        "low": low,
        "high": high,
        "once": statistics.median(own.composing - full.composing for full, own in pairs),
    }


def table(found: dict[str, dict[str, Any]], case: str, steps: int, rounds: int) -> str:
    """In Markdown."""
    lines = [
        f"{case}, {steps} steps, {rounds} rounds",
        "",
        "| method | ms a step | beside full | before the first step, s |",
        "|---|---|---|---|",
    ]
    for name, method in found.items():
        spread = f"{method['low']:.2f} to {method['high']:.2f}"
        lines.append(
            f"| {name} | {1000 * method['step']:.0f} | {method['ratio']:.2f} x ({spread}) "
            f"| {max(0.0, method['once']):.1f} |"
        )
    return "\n".join(lines)


def _recipe(case: str, name: str, tried: Tried, steps: int) -> Recipe | None:
    """The case's run without methods, with these. None, and a line, where it has no teacher."""
    methods, settings = tried
    never = {"steps": steps, "validate_every": steps, "validation_rows": 10}
    raw = {**_run_without_methods(case), **never, "checkpoint_every": steps}
    config = RunConfig(**{**raw, "methods": methods, **settings})
    if config.draw:
        say(f"{name} is left out: its teacher is of the same draw, and no run is")
        return None
    if not Path(config.teacher).exists():
        say(f"{name} is left out: its teacher {config.teacher} is not there")
        return None
    recipe = read_recipe(name, config, read_json(Path(f"models/base/{case}.json")))
    check_fit(recipe, chosen(name, config))
    return recipe


def _run_without_methods(case: str) -> dict[str, Any]:
    runs: dict[str, Any] = lookup(load(), "runs")
    for name, run in runs.items():
        if run["case"] == case and not run["methods"]:
            return read_run(name).model_dump()
    raise UserError(f"--case {case}: no run of it is without methods")


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.methods")
    parser.add_argument("--case", choices=TRIED, default="medical-bert")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, with commas")
    parser.add_argument("--steps", type=int, default=12, help="of each training, 3 or more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    asked = parser.parse_args(arguments)
    tried = TRIED[asked.case]
    if unknown := sorted(set(asked.only or ()) - set(tried)):
        raise UserError(f"--only {unknown[0]}: give some of {', '.join(tried)}")
    os.environ["TQDM_DISABLE"] = "1"
    names = [name for name in tried if not asked.only or name in (FULL, *asked.only)]
    made = {name: _recipe(asked.case, name, tried[name], asked.steps) for name in names}
    found = compare({name: recipe for name, recipe in made.items() if recipe}, asked.rounds)
    if asked.json:
        write_json(asked.json, found)
    print(table(found, asked.case, asked.steps, asked.rounds))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
