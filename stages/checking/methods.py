"""Methods of runs: those that fit their case, their run's teacher, its variants and one another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.config.cases import UNSEEN
from stages.config.reading import mistake
from stages.config.runs import TUNED, RunConfig
from stages.config.sequences import earlier, learned
from stages.config.variants import MIXED
from stages.models.layers import known_layers
from stages.training.methods.distil import Distil
from stages.training.methods.method import Fit, Method
from stages.training.methods.self_training import SelfTraining
from stages.training.methods.table import misfits

TAUGHT: tuple[type[Method], ...] = (Distil, SelfTraining)
"""Methods that read the run's teacher."""


def of_run(
    name: str, run: RunConfig, methods: Sequence[Method], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A line for every mistake of one run. `sound`: section -> name -> what could be read of it."""
    yield from _fit(name, run, methods, sound)
    yield from _unmixed(name, methods, sound)
    yield from _untaught(name, run, methods, sound)


def of_all(
    methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A line for every mistake of runs beside one another. `methods`: by run."""
    yield from _unmerged(methods, sound)
    yield from _unseen(methods, sound)


def _fit(
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
    fit = Fit(run, model.kind, **kinds, layers=known_layers(model))
    yield from misfits(name, methods, fit)


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


def _taught(methods: Sequence[Method]) -> bool:
    return any(isinstance(method, TAUGHT) for method in methods)


def unread(name: str, run: RunConfig, methods: Sequence[Method]) -> Iterator[str]:
    """A run's tuned teacher is there to be started from, or to teach. Not asked of a grid, some of
    whose combinations may leave out what reads it."""
    if run.teacher.startswith(TUNED) and not (run.before or _taught(methods)):
        reason = "nothing reads it: add starts: teacher, distil or self-training"
        yield mistake(f"runs.{name}.teacher", run.teacher, reason)


def _untaught(
    name: str, run: RunConfig, methods: Sequence[Method], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A teacher has learned what it teaches, in a model of the same kind."""
    runs, cases, models = sound["runs"], sound["cases"], sound["models"]
    teacher = run.teacher.removeprefix(TUNED)
    if run.before or not _taught(methods) or teacher not in runs:
        return
    if not all(case in cases for case in (run.case, runs[teacher].case)):
        return  # said already
    own, its = cases[run.case], cases[runs[teacher].case]
    key = f"runs.{name}.teacher"
    kinds = [models[case.model].kind for case in (own, its) if case.model in models]
    if len(set(kinds)) > 1:
        yield mistake(key, run.teacher, f"is of kind {kinds[1]}, and the run of kind {kinds[0]}")
        return
    known = {*learned(runs[teacher], its), *earlier(runs, teacher, its)}
    if missing := sorted(set(learned(run, own)) - known):
        yield mistake(key, run.teacher, f"has not learned {missing[0]}: give a run that has")


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
        known = seen(case_name, methods, sound)
        if len(set(case.retain) - known) < UNSEEN:
            reason = (
                f"methods of its runs see {', '.join(sorted(known))}; {UNSEEN} tasks must be left "
                "that none sees: add retain tasks, or let the methods see fewer"
            )
            yield mistake(f"cases.{case_name}.retain", list(case.retain), reason)


def seen(
    case: str, methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> set[str]:
    """Tasks that methods of its runs see."""
    return {
        task
        for run, its in methods.items()
        if sound["runs"][run].case == case
        for method in its
        for task in method.sees()
    }
