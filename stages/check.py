"""`python -m stages.check`: is params.yaml sound?

Every key and name, whether each method fits its case, and whether files of one's own that it names
are there; those of data are held against their sha256; and whether this machine can train
each run and score each variant. Nothing is fetched.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages import errors
from stages.config.cases import UNSEEN
from stages.config.overrides import changed
from stages.config.reading import PARAMS, load, mistake, parse, suggestion
from stages.config.references import run_mistakes
from stages.config.runs import TUNED, RunConfig
from stages.config.sequences import earlier, learned
from stages.config.tasks import TaskConfig
from stages.config.variants import MIXED
from stages.config.whole import read_whole
from stages.errors import UserError
from stages.models import template, word_head
from stages.models.four_bits import four_bits
from stages.models.layers import known_layers
from stages.sources.own import own_mistakes
from stages.statistics.measures import Measure, measure_for
from stages.tasks.noise import NOISED
from stages.training.methods.distil import Distil
from stages.training.methods.method import Fit, Method
from stages.training.methods.self_training import SelfTraining
from stages.training.methods.table import chosen, misfits
from stages.variants.quantise import check_processor

TAUGHT: tuple[type[Method], ...] = (Distil, SelfTraining)
"""Methods that read the run's teacher."""


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
    fit = Fit(run, model.kind, **kinds, layers=known_layers(model))
    yield from misfits(name, methods, fit)


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


def _swept(
    methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """The combinations of each grid, sound runs by themselves, have methods that fit, and leave a
    task to compare them by. `methods`: by run."""
    params = load()
    runs = params["runs"]
    for case, sweep in sound["sweep"].items():
        seen: set[str] = set()
        for changes in sweep.combinations():
            run = parse(RunConfig, changed(runs[sweep.run], changes), f"runs.{sweep.run}")
            try:
                tried = {**methods, sweep.run: chosen(sweep.run, run)}
            except UserError as error:
                found = str(error).splitlines()
            else:
                grown = {**sound, "runs": {**sound["runs"], sweep.run: run}}
                found = [*run_mistakes(sweep.run, params, grown)]
                found += _of_run(sweep.run, run, tried[sweep.run], grown)
                found += _unmixed(sweep.run, tried[sweep.run], grown)
                found += _untaught(sweep.run, run, tried[sweep.run], grown)
                found += _unmerged(tried, grown)
                found += _unseen(tried, {**sound, "cases": {case: sound["cases"][case]}})
                seen |= _seen(case, tried, sound)
            yield from (f"{line} (in sweep.{case})" for line in found)
        tasks = {name: sound["tasks"].get(name) for name in sound["cases"][case].retain}
        if all(name in seen or _of_text(task) for name, task in tasks.items()):
            reason = (
                f"combinations see {', '.join(sorted(seen)) or 'none'}, and no retain task is left "
                "to compare them by, for texts do not count: let the grid's methods see fewer "
                "tasks, or add retain tasks"
            )
            yield mistake(f"sweep.{case}.run", sweep.run, reason)


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
        seen = _seen(case_name, methods, sound)
        if len(set(case.retain) - seen) < UNSEEN:
            reason = (
                f"methods of its runs see {', '.join(sorted(seen))}; {UNSEEN} tasks must be left "
                "that none sees: add retain tasks, or let the methods see fewer"
            )
            yield mistake(f"cases.{case_name}.retain", list(case.retain), reason)


def _seen(
    case: str, methods: Mapping[str, Sequence[Method]], sound: dict[str, dict[str, Any]]
) -> set[str]:
    """Tasks that methods of its runs see."""
    return {
        task
        for run, of_run in methods.items()
        if sound["runs"][run].case == case
        for method in of_run
        for task in method.sees()
    }


def _taught(methods: Sequence[Method]) -> bool:
    return any(isinstance(method, TAUGHT) for method in methods)


def _unread(name: str, run: RunConfig, methods: Sequence[Method]) -> Iterator[str]:
    """A run's tuned teacher is there to be started from, or to teach."""
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


def _measure(task: TaskConfig) -> Measure | None:
    """None where the YAML of an lm-eval task says what it is."""
    if task.data.reader == "lm-eval":
        return measure_for(task.kind, task.data.metric) if task.data.metric else None
    return measure_for(task.kind, task.metric, task.negative)


def _of_text(task: TaskConfig | None) -> bool:
    measure = _measure(task) if task else None
    return measure is not None and measure.of_text


def _limits(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The gate's own margins are of tasks that are kept, and limits of shares are below 1."""
    compare, told = sound["compare"].get("compare"), load().get("cases")
    if compare is None or not isinstance(told, dict):
        return
    cases, tasks, limits = sound["cases"], sound["tasks"], compare.gate
    whole = len(cases) == len(told)
    retained = sorted({task for case in cases.values() for task in case.retain})
    share = "is measured as a share of 1: give less than 1, such as 0.05 for 5 points"
    for task, margin in limits.margins.items():
        measure = _measure(tasks[task]) if task in tasks else None
        if margin >= 1 and measure and not measure.of_text:
            yield mistake(f"compare.gate.margins.{task}", margin, f"{task} {share}")
        if whole and task in tasks and task not in retained:
            near = suggestion(task, retained)
            reason = f"no case has it under retain, which margins are of{near}"
            yield mistake("compare.gate.margins", task, reason)
    targets = {task for case in cases.values() for task in case.targets}
    measures = [_measure(tasks[task]) if task in tasks else None for task in targets]
    shares = whole and measures and all(one and not one.of_text for one in measures)
    if limits.minimum_gain is not None and abs(limits.minimum_gain) >= 1 and shares:
        yield mistake("compare.gate.minimum_gain", limits.minimum_gain, f"every target {share}")


def _silent(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Noise is asked for of tasks whose rows have a text that a user would have typed."""
    evaluation = sound["evaluation"].get("evaluation")
    chosen = evaluation.noise.tasks if evaluation else "all"
    for name in () if chosen == "all" else chosen:
        if name in sound["tasks"] and (kind := sound["tasks"][name].kind) not in NOISED:
            reason = f"a {kind} task is asked without noise: leave it out"
            yield mistake("evaluation.noise.tasks", name, reason)


def _uncomputed(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Runs that this machine cannot train, and variants that it cannot score."""
    for name, run in sound["runs"].items():
        if run.quantise:
            try:
                four_bits()
            except UserError as error:
                yield f"runs.{name}.{error}"
    for name, variants in sound["variants"].items():
        if any(variant.kind == "int8" for variant in variants):
            try:
                check_processor()
            except UserError as error:
                yield f"variants.{name}: {error}"


def _found(mistakes: list[str]) -> dict[str, dict[str, Any]]:
    """section -> name -> what could be read of it. Adds a line for every mistake."""
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
            mistakes.extend(_unread(name, run, methods[name]))
            mistakes.extend(_untaught(name, run, methods[name], sound))
    mistakes.extend(_unmerged(methods, sound))
    mistakes.extend(_unseen(methods, sound))
    mistakes.extend(_lacking(sound))
    mistakes.extend(_limits(sound))
    mistakes.extend(_silent(sound))
    if not mistakes:
        mistakes.extend(_swept(methods, sound))
    return sound


def _tell(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))


def check() -> None:
    """Of params.yaml alone. Raises UserError with one line a mistake."""
    mistakes: list[str] = []
    _found(mistakes)
    _tell(mistakes)


def main() -> None:
    """Of the user's own files that it names, and of the machine, too."""
    mistakes: list[str] = []
    sound = _found(mistakes)
    mistakes.extend(own_mistakes(sound["cases"], sound["tasks"], sound["models"]))
    mistakes.extend(_uncomputed(sound))
    _tell(mistakes)
    print(f"{PARAMS}: sound")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
