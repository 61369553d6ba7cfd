"""What methods have in common that use the train splits of retain tasks, and of the targets that
earlier steps of a sequence have learned."""

from collections.abc import Iterable, Sequence

from stages.config.kinds import UNTAUGHT
from stages.training.methods.method import Fit


def misfit_of_retained(tasks: Sequence[str], fit: Fit) -> str | None:
    """Why a run cannot use the train splits of `tasks`; None where it can."""
    known = {**fit.retain, **fit.earlier}
    if fit.run.pool != "retain/train" and not (tasks and set(tasks) <= set(fit.earlier)):
        return "uses train rows of retain tasks: set the run's pool to retain/train"
    for task in tasks:
        if tasks.count(task) > 1:
            return f"duplicate name {task!r}"
        if task not in known:
            nor = ", and no earlier step learned it" if fit.run.before else ""
            return f"{task} is no retain task of {fit.run.case}{nor}: give some of {_listed(known)}"
        if known[task] in UNTAUGHT:
            taught = [name for name, kind in known.items() if kind not in UNTAUGHT]
            return f"{task}: {UNTAUGHT[known[task]]}; what would fit: {_listed(taught)}"
    if not tasks:
        return f"names no task: give some of {_listed(known)}"
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
