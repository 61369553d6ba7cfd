"""Sequences: runs that start from one another, each learning other targets of their case."""

from collections.abc import Iterator, Mapping

from stages.config.cases import CaseConfig
from stages.config.reading import mistake, suggestion
from stages.config.runs import TUNED, RunConfig


def steps(runs: Mapping[str, RunConfig], run: str) -> list[str]:
    """The runs that lead to `run`, the first one first and it last. Where they go in a circle, or
    one is not there, the part that can be told."""
    found = [run]
    while (before := runs[found[-1]].before) and before in runs and before not in found:
        found.append(before)
    return found[::-1]


def circle(runs: Mapping[str, RunConfig], run: str) -> list[str]:
    """The runs that `run` waits for by their teachers, from the one that starts from it or is
    taught by it to `run` itself; none where they lead elsewhere."""
    found = [run]
    while (teacher := runs[found[-1]].teacher.removeprefix(TUNED)) in runs:
        if teacher == run:
            return found[::-1]
        if teacher in found:
            break  # a circle of others
        found.append(teacher)
    return []


def learned(run: RunConfig, case: CaseConfig) -> tuple[str, ...]:
    """The targets that a run learns, in the case's order."""
    return tuple(task for task in case.targets if run.learns is None or task in run.learns)


def earlier(runs: Mapping[str, RunConfig], run: str, case: CaseConfig) -> dict[str, str]:
    """The targets that the steps before `run` have learned, in order, and the run that did."""
    return {task: step for step in steps(runs, run)[:-1] for task in learned(runs[step], case)}


def sequences(runs: Mapping[str, RunConfig]) -> dict[str, list[str]]:
    """The steps of each sequence, by its last run: one from which no other starts."""
    begun_with = {run.before for run in runs.values()}
    ends = (name for name, run in runs.items() if run.before and name not in begun_with)
    return {name: steps(runs, name) for name in ends}


def sequence_mistakes(name: str, runs: Mapping[str, RunConfig], case: CaseConfig) -> Iterator[str]:
    """A line for every mistake of a run in what it learns and where it starts. `case`: its own."""
    run = runs[name]
    for task in run.learns or ():
        if task not in case.targets:
            near = suggestion(task, case.targets)
            reason = f"no target of {run.case}, which has {', '.join(case.targets)}{near}"
            yield mistake(f"runs.{name}.learns", task, reason)
    if run.before is None or run.before == name or run.before not in runs:
        return  # no step, or said already
    before, key = runs[run.before], f"runs.{name}"
    if before.case != run.case:
        reason = f"a run of {before.case}: a step starts from a run of its own case, {run.case}"
        yield mistake(f"{key}.teacher", run.teacher, reason)
        return
    if runs[steps(runs, name)[0]].before is not None:
        return  # a circle, or a run that is not there: of its teacher it is said
    if lacking := sorted(set(run.seeds) - set(before.seeds)):
        reason = (
            f"{run.before} has no seed {lacking[0]}: a step's seed starts from the same of "
            f"{run.before}, which has {', '.join(map(str, before.seeds))}"
        )
        yield mistake(f"{key}.seeds", list(run.seeds), reason)
    known = earlier(runs, name, case)
    if again := [task for task in learned(run, case) if task in known]:
        reason = f"{known[again[0]]} has learned {again[0]} before: give targets that are new"
        shown = None if run.learns is None else list(run.learns)
        yield mistake(f"{key}.learns", shown, reason)
