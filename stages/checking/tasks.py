"""Tasks beside the models that are asked them; and what evaluation and compare say of them."""

from collections.abc import Iterator
from typing import Any

from stages.config.reading import load, mistake, suggestion
from stages.config.tasks import TaskConfig
from stages.models import template, word_head
from stages.statistics.measures import Measure, measure_for
from stages.tasks.noise import NOISED


def of_tasks(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for every mistake. `sound`: section -> name -> what could be read of it."""
    yield from _lacking(sound)
    yield from _limits(sound)
    yield from _silent(sound)


def of_text(task: TaskConfig | None) -> bool:
    """Whether its measure has no upper end, as bits per byte."""
    measure = _measure(task) if task else None
    return measure is not None and measure.of_text


def _measure(task: TaskConfig) -> Measure | None:
    """None where the YAML of an lm-eval task says what it is."""
    if task.data.reader == "lm-eval":
        return measure_for(task.kind, task.data.metric) if task.data.metric else None
    return measure_for(task.kind, task.metric, task.negative)


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
