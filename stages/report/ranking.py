"""Which run lost least, on what no run has seen."""

from collections.abc import Collection, Sequence

from stages.report.lines import Line
from stages.report.units import BITS


def ranking(lines: Sequence[Line]) -> str:
    """One sentence of a case's `lines`; empty where there is but one run.

    The mean change over the accuracy-like tasks that no run learned and whose train split no method
    of any run used: the same tasks for all. It says nothing of what each run gained.
    """
    runs = list(dict.fromkeys(line.run for line in lines))
    seen = {line.task for line in lines if line.seen or line.is_target}
    unseen = unseen_of(lines, seen)
    if len(runs) < 2 or not unseen:
        return ""
    means = {run: mean_change([line for line in unseen if line.run == run]) for run in runs}
    ranked = sorted(runs, key=lambda run: -means[run])
    tasks = list(dict.fromkeys(line.task for line in unseen))
    told = ", ".join(f"{run} {means[run]:+.1f}" for run in ranked)
    return f"Mean change on unseen tasks ({', '.join(tasks)}), points: {told}"


def unseen_of(lines: Sequence[Line], seen: Collection[str]) -> list[Line]:
    """Those of accuracy-like retain tasks that are not among the `seen`."""
    kept = (line for line in lines if not line.is_target and line.unit is not BITS)
    return [line for line in kept if line.task not in seen]


def mean_change(lines: Sequence[Line]) -> float:
    """In points, to one decimal."""
    changes = [line.unit.scale * line.change.value for line in lines]
    return round(sum(changes) / len(changes), 1) + 0.0
