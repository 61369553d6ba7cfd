"""`python -m stages.check`: is params.yaml sound, and does every method fit its case?"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages import errors
from stages.config.cases import UNSEEN
from stages.config.overrides import changed
from stages.config.reading import PARAMS, load, mistake, parse
from stages.config.runs import RunConfig
from stages.config.sequences import earlier, learned
from stages.config.variants import MIXED
from stages.config.whole import read_whole
from stages.errors import UserError
from stages.models import template, word_head
from stages.training.methods.method import Fit, Method
from stages.training.methods.table import chosen, misfits


def _of_run(
    name: str, run: RunConfig, methods: Sequence[Method], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    tasks = sound["tasks"]
    case = sound["cases"].get(run.case)
    if not case or not all(task in tasks for task in (*case.targets, *case.retain)):
        return  # said already
    model = sound["models"].get(case.model)
    if not model:
        return
    known = earlier(sound["runs"] | {name: run}, name, case)
    asked = {"targets": learned(run, case), "retain": case.retain, "earlier": known}
    kinds = {role: {task: tasks[task].kind for task in names} for role, names in asked.items()}
    yield from misfits(name, methods, Fit(run, model.kind, **kinds))


def _lacking(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Models have what their tasks need, a chat template or a head for masked words, as far as can
    be known here."""
    for name, case in sound["cases"].items():
        model = sound["models"].get(case.model)
        lacks: dict[str, str] = {}
        if model and template.known_to_lack(model):
            lacks["chat"] = template.LACKING
        if model and model.kind == "encoder" and word_head.known_to_lack(model):
            lacks |= dict.fromkeys(word_head.NEEDED, word_head.LACKING)
        for role in ("targets", "retain") if lacks else ():
            for task in getattr(case, role):
                if task in sound["tasks"] and (what := lacks.get(sound["tasks"][task].kind)):
                    yield mistake(f"cases.{name}.{role}", task, f"{case.model}: {what}")


def _swept(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Methods of the combinations of each grid, which are sound runs by themselves."""
    runs = load()["runs"]
    for case, sweep in sound["sweep"].items():
        for changes in sweep.combinations():
            run = parse(RunConfig, changed(runs[sweep.run], changes), f"runs.{sweep.run}")
            try:
                found = list(_of_run(sweep.run, run, chosen(sweep.run, run), sound))
            except UserError as error:
                found = str(error).splitlines()
            yield from (f"{line} (in sweep.{case})" for line in found)


def _unmixed(
    name: str, methods: Sequence[Method], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Models whose weights are not those of their base are not mixed with it."""
    for method in methods:
        reason = method.grows()
        for variant in sound["variants"].get(name, ()) if reason else ():
            if variant.kind in MIXED:
                told = f"the run has {method.name}, and {reason}: leave it out"
                yield mistake(f"variants.{name}", variant.name, told)


def _unmerged(
    methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A step does not start from a model that is more than its weights."""
    for name, run in sound["runs"].items():
        for method in methods.get(run.before, ()):
            if reason := method.unmerged():
                told = f"{run.before} has {method.name}, and {reason}: start from another run"
                yield mistake(f"runs.{name}.teacher", run.teacher, told)


def _unseen(
    methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Two tasks of each case must be left that no method of any run sees. `methods`: by run."""
    for case_name, case in sound["cases"].items():
        seen = {
            task
            for run, of_run in methods.items()
            if sound["runs"][run].case == case_name
            for method in of_run
            for task in method.sees()
        }
        if len(set(case.retain) - seen) < UNSEEN:
            reason = (
                f"methods of its runs see {', '.join(sorted(seen))}; {UNSEEN} tasks must be left "
                "that none sees: add retain tasks, or let the methods see fewer"
            )
            yield mistake(f"cases.{case_name}.retain", list(case.retain), reason)


def check() -> None:
    """Raises UserError with one line a mistake."""
    mistakes: list[str] = []
    sound = read_whole(mistakes)
    methods: dict[str, list[Method]] = {}
    for name, run in sound["runs"].items():
        try:
            methods[name] = chosen(name, run)
        except UserError as error:
            mistakes.extend(str(error).splitlines())
        else:
            mistakes.extend(_of_run(name, run, methods[name], sound))
            mistakes.extend(_unmixed(name, methods[name], sound))
    mistakes.extend(_unmerged(methods, sound))
    mistakes.extend(_unseen(methods, sound))
    mistakes.extend(_lacking(sound))
    if not mistakes:
        mistakes.extend(_swept(sound))
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))


def main() -> None:
    check()
    print(f"{PARAMS}: sound")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
