"""Which run lost least, on what no run has seen."""

from collections.abc import Sequence

from stages.report.lines import Line
from stages.report.units import BITS


def ranking(lines: Sequence[Line]) -> str:
    """One sentence of a case's `lines`; empty where there is but one run.

    The mean change over the accuracy-like retain tasks whose train split no method of any run
    used: the same tasks for all. It says nothing of what each run gained.
    """
    runs = list(dict.fromkeys(line.run for line in lines))
    seen = {line.task for line in lines if line.seen}
    kept = [line for line in lines if not line.is_target and line.unit is not BITS]
    unseen = [line for line in kept if line.task not in seen]
    if len(runs) < 2 or not unseen:
        return ""
    changes = {
        run: [line.unit.scale * line.change.value for line in unseen if line.run == run]
        for run in runs
    }
    means = {run: round(sum(of_run) / len(of_run), 1) + 0.0 for run, of_run in changes.items()}
    ranked = sorted(runs, key=lambda run: -means[run])
    tasks = list(dict.fromkeys(line.task for line in unseen))
    told = ", ".join(f"{run} {means[run]:+.1f}" for run in ranked)
    return f"Mean change on unseen tasks ({', '.join(tasks)}), points: {told}"
