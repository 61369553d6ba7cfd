"""What each method costs: seconds a step beside full fine-tuning, and seconds before the first.

`python -m tests.benchmarks.methods --help`; README.md says what the columns mean.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from stages import errors
from stages.config.reading import load, lookup
from stages.config.runs import RunConfig, read_run
from stages.errors import UserError
from stages.finetune import _recipe as read_recipe
from stages.finetune import check_fit
from stages.storage import read_json, write_json
from stages.tasks.examples import Examples
from stages.training.checkpoint import Checkpoint
from stages.training.methods.method import Method
from stages.training.methods.table import chosen
from stages.training.run import train_seed
from stages.training.subject import Recipe, Subject

from .tried import TRIED, Tried

FULL = "full"


class Stopwatch(Method):
    """Looks at the clock where a run calls its methods. It stands before and after all others."""

    name: ClassVar[str] = "stopwatch"
    _began: list[float] = PrivateAttr(default_factory=list)
    _composed: list[float] = PrivateAttr(default_factory=list)
    _stepped: dict[int, float] = PrivateAttr(default_factory=dict)

    def rewrite(self, examples: Examples, seed: int) -> Examples:
        self._began.append(time.perf_counter())
        return examples

    def adapt(self, subject: Subject) -> None:
        self._composed.append(time.perf_counter())

    def after_step(self, subject: Subject, step: int) -> None:
        self._stepped[step] = time.perf_counter()

    @property
    def composing(self) -> float:
        """Seconds from the model, loaded, to the objective, ready."""
        return self._composed[-1] - self._began[0]

    @property
    def step(self) -> float:
        """Seconds of a step: the median. The first one is left out; it also pays for memory."""
        times = list(self._stepped.values())
        return statistics.median(after - before for before, after in pairwise(times))


def measure(recipe: Recipe) -> Stopwatch:
    """Train once, by the pipeline's own loop."""
    gc.collect()  # a model goes in a circle with its hooks, and would be there still
    watch = Stopwatch()
    methods = [watch, *chosen(recipe.name, recipe.config), watch]
    with tempfile.TemporaryDirectory() as folder:
        train_seed(recipe, methods, 0, Checkpoint("benchmark", 0), Path(folder))
    return watch


def compare(recipes: dict[str, Recipe], rounds: int) -> dict[str, dict[str, Any]]:
    """Each method in turn with full fine-tuning, never at once."""
    pairs: dict[str, list[tuple[Stopwatch, Stopwatch]]] = {name: [] for name in recipes}
    measure(recipes[FULL])  # what comes first pays for what is set up
    for _ in range(rounds):
        for name, recipe in recipes.items():
            pairs[name].append((measure(recipes[FULL]), measure(recipe)))
            full, own = pairs[name][-1]
            _say(f"{name}: {own.step:.3f} s a step, full {full.step:.3f}")
    return {name: _summary(of_method) for name, of_method in pairs.items()}


def _summary(pairs: Sequence[tuple[Stopwatch, Stopwatch]]) -> dict[str, Any]:
    ratios = sorted(own.step / full.step for full, own in pairs)
    return {
        "step": statistics.median(own.step for _, own in pairs),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
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
        spread = f"{method['lowest']:.2f} to {method['highest']:.2f}"
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
    if not Path(config.teacher).exists():
        _say(f"{name} is left out: its teacher {config.teacher} is not there")
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
