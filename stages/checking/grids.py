"""The grids of `make sweep`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.checking.methods import of_all, of_run, seen
from stages.checking.tasks import of_text
from stages.config.overrides import changed
from stages.config.reading import load, mistake, parse
from stages.config.references import run_mistakes
from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.training.methods.method import Method
from stages.training.methods.table import chosen


def of_grids(
    methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A line for every mistake: combinations are sound runs by themselves, have methods that fit,
    and leave a task to compare them by. `methods`: by run. `sound`: all that params.yaml says."""
    params = load()
    runs = params["runs"]
    for case, sweep in sound["sweep"].items():
        known: set[str] = set()
        for changes in sweep.combinations():
            run = parse(RunConfig, changed(runs[sweep.run], changes), f"runs.{sweep.run}")
            try:
                tried = {**methods, sweep.run: chosen(sweep.run, run)}
            except UserError as error:
                found = str(error).splitlines()
            else:
                grown = {**sound, "runs": {**sound["runs"], sweep.run: run}}
                found = [*run_mistakes(sweep.run, params, grown)]
                found += of_run(sweep.run, run, tried[sweep.run], grown)
                found += of_all(tried, {**grown, "cases": {case: sound["cases"][case]}})
                known |= seen(case, tried, sound)
            yield from (f"{line} (in sweep.{case})" for line in found)
        tasks = {name: sound["tasks"].get(name) for name in sound["cases"][case].retain}
        if all(name in known or of_text(task) for name, task in tasks.items()):
            reason = (
                f"combinations see {', '.join(sorted(known)) or 'none'}, and no retain task is "
                "left to compare them by, for texts do not count: let the grid's methods see "
                "fewer tasks, or add retain tasks"
            )
            yield mistake(f"sweep.{case}.run", sweep.run, reason)
