"""What sections of params.yaml say of each other: names that exist, kinds that fit."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stages.config.kinds import ANSWERS, AVERAGED, LABELLED, UNTAUGHT, WITH_HEAD
from stages.config.reading import NAME, mistake, suggestion
from stages.config.runs import RunConfig
from stages.config.sequences import circle, earlier, learned, sequence_mistakes
from stages.config.sweep import sweep_mistakes
from stages.config.variants import misfits


def references(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> list[str]:
    """A line for every mistake. `sound`: section -> name -> what could be read of it."""
    checks = (_of_cases, _of_tasks, _of_runs, _of_variants, _of_compare, _of_sweep)
    return [line for check in checks for line in check(params, sound)]


def _unknown(key: str, name: str, section: str, known: Iterable[str]) -> str:
    near = suggestion(name, sorted(map(str, known)))
    return mistake(key, name, f"no such name under {section}{near}")


def _of_cases(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, case in sound["cases"].items():
        if case.model not in params["models"]:
            yield _unknown(f"cases.{name}.model", case.model, "models", params["models"])
        model = sound["models"].get(case.model)
        if model and model.kind != "causal" and case.shots is not None:
            reason = f"{case.model} is of kind {model.kind} and takes no prompt: leave it out"
            yield mistake(f"cases.{name}.shots", case.shots, reason)
        for role in ("targets", "retain"):
            for task in getattr(case, role):
                key = f"cases.{name}.{role}"
                if task not in params["tasks"]:
                    yield _unknown(key, task, "tasks", params["tasks"])
                elif model and task in sound["tasks"]:
                    kind = sound["tasks"][task].kind
                    yield from _misfit(key, task, kind, case.model, model.kind)
                    if role == "targets" and case.shots is not None and kind == "chat":
                        reason = (
                            f"{task} is chat: a prompt of shots is no conversation: leave it out"
                        )
                        yield mistake(f"cases.{name}.shots", case.shots, reason)
                    if role == "targets" and kind in UNTAUGHT:
                        yield mistake(key, task, f"no target: {UNTAUGHT[kind]}")


def _misfit(key: str, task: str, kind: str, model: str, model_kind: str) -> Iterator[str]:
    if kind not in ANSWERS[model_kind]:
        fits = ", ".join(ANSWERS[model_kind])
        yield mistake(key, task, f"is {kind}; {model} is of kind {model_kind}, which fits {fits}")


def _of_tasks(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, task in sound["tasks"].items():
        if task.judge is None:
            continue
        key = f"tasks.{name}.judge"
        if task.judge not in params["models"]:
            yield _unknown(key, task.judge, "models", params["models"])
        elif task.judge in sound["models"] and sound["models"][task.judge].kind != "encoder":
            yield mistake(key, task.judge, "give a model of kind encoder")
    evaluation = sound["evaluation"].get("evaluation")
    if evaluation and evaluation.noise.tasks != "all":
        for task in evaluation.noise.tasks:
            if task not in params["tasks"]:
                yield _unknown("evaluation.noise.tasks", task, "tasks", params["tasks"])


def _of_runs(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name in sound["runs"]:
        yield from run_mistakes(name, params, sound)


def run_mistakes(
    name: str, params: dict[str, Any], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A line for every mistake of a run beside its case, its teacher and its variants."""
    run = sound["runs"][name]
    if run.case not in params["cases"]:
        yield _unknown(f"runs.{name}.case", run.case, "cases", params["cases"])
        return
    if run.case in sound["cases"]:
        case = sound["cases"][run.case]
        targets = learned(run, case)
        kinds = [sound["tasks"][task].kind for task in targets if task in sound["tasks"]]
        if targets and len(kinds) == len(targets):
            yield from _of_head(f"runs.{name}.head", run.head, kinds)
            yield from _of_draw(f"runs.{name}.draw", run, kinds)
        if len(targets) > run.batch_size:
            reason = f"a step takes a row of each target, and there are {len(targets)}"
            yield mistake(f"runs.{name}.batch_size", run.batch_size, reason)
        yield from sequence_mistakes(name, sound["runs"], case)
    yield from _of_teacher(name, params, sound)
    yield from misfits(name, sound["variants"].get(name, ()), run)


def _of_head(key: str, head: str | None, kinds: list[str]) -> Iterator[str]:
    labelled = [kind for kind in kinds if kind in WITH_HEAD]
    if labelled and head is None:
        yield mistake(key, None, f"a {labelled[0]} target needs a head: probe or random")
    if not labelled and head is not None:
        yield mistake(key, head, f"a {kinds[0]} target has no head: leave it out")


def _of_draw(key: str, run: RunConfig, kinds: list[str]) -> Iterator[str]:
    if run.draw is None:
        return
    rows, per_label = run.draw.rows, run.draw.per_label
    others = [kind for kind in kinds if kind not in LABELLED]
    if per_label is not None and others:
        yield mistake(
            f"{key}.per_label", per_label, f"a row of a {others[0]} target has no label: give rows"
        )
    if rows is not None and rows < run.batch_size and "retrieval" in kinds:
        reason = f"a retrieval target's rows are told apart within a batch of {run.batch_size}"
        yield mistake(f"{key}.rows", rows, f"{reason}: give a smaller batch_size")


def _of_teacher(
    name: str, params: dict[str, Any], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    run, key = sound["runs"][name], f"runs.{name}.teacher"
    folder, _, teacher = run.teacher.rpartition("/")
    if folder == "models/base" and teacher != f"{run.case}.json":
        yield mistake(key, run.teacher, f"give models/base/{run.case}.json, or the folder of a run")
    if folder == "models/tuned" and teacher == name:
        yield mistake(key, run.teacher, "a run is not its own teacher")
    elif folder == "models/tuned" and teacher not in params["runs"]:
        yield _unknown(key, teacher, "runs", params["runs"])
    elif way := circle(sound["runs"], name):
        yield mistake(key, run.teacher, f"goes in a circle: {', '.join([name, *way])}")


def _of_variants(params: dict[str, Any], _: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not params["runs"]:
        return  # said already
    for run in params["variants"]:
        if run not in params["runs"]:
            yield _unknown("variants", str(run), "runs", params["runs"])
    for run in params["runs"]:
        named = isinstance(run, str) and NAME.fullmatch(run)
        if named and run not in params["variants"]:
            yield mistake(f"variants.{run}", None, "every run has an entry: give [] for none")


def _of_compare(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    compare = sound["compare"].get("compare")
    for task in compare.gate.margins if compare else ():
        if task not in params["tasks"]:
            yield _unknown("compare.gate.margins", task, "tasks", params["tasks"])
    for name, members in compare.ensembles.items() if compare else ():
        yield from _of_ensemble(f"compare.ensembles.{name}", members, params, sound)


def _of_ensemble(
    key: str, members: Sequence[str], params: dict[str, Any], sound: dict[str, dict[str, Any]]
) -> Iterator[str]:
    shown = list(members)
    unknown = [run for run in members if run not in params["runs"]]
    yield from (_unknown(key, run, "runs", params["runs"]) for run in unknown)
    if len(set(members)) < len(members):
        yield mistake(key, shown, "a run stands there twice")
    runs = [sound["runs"][run] for run in members if run in sound["runs"]]
    if unknown or len(runs) < len(members):
        return  # said already
    if sum(len(run.seeds) for run in runs) < 2:
        yield mistake(key, shown, "give two runs or more, or one of several seeds")
    cases = sorted({run.case for run in runs})
    if len(cases) > 1:
        yield mistake(key, shown, f"runs of {' and '.join(cases)}: give those of one case")
    elif cases and cases[0] in sound["cases"]:
        case = sound["cases"][cases[0]]
        tasks = [task for task in (*case.targets, *case.retain) if task in sound["tasks"]]
        if not any(sound["tasks"][task].kind in AVERAGED for task in tasks):
            kinds = ", ".join(AVERAGED)
            yield mistake(key, shown, f"no task of {cases[0]} has probabilities: {kinds}")


def _of_sweep(params: dict[str, Any], sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    for case, config in sound["sweep"].items():
        if config.run in sound["runs"] or config.run not in params["runs"]:
            yield from sweep_mistakes(params, case, config)
        run = sound["runs"].get(config.run)
        if run and run.case == case and case in sound["cases"]:
            known = {*learned(run, sound["cases"][case])}
            known |= {*earlier(sound["runs"], config.run, sound["cases"][case])}
            if left := set(sound["cases"][case].targets) - known:
                reason = f"has not learned {min(left)}: give the last run of a sequence"
                yield mistake(f"sweep.{case}.run", config.run, reason)
