"""What was planned beside what stages took here (stages/phases.py), and what would fit."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from stages.phases import START, Timing
from stages.planning.machine import BESIDE, REACHED
from stages.planning.planned import DRAWN, PROCESS, Planned

PHASES = {
    "train": ("train", "adapt", "update"),
    "validate": ("read",),
    "score": ("read",),
    "relearn": ("read",),
    "drift": ("read",),
    "shift": ("read",),
    "compose": ("read",),
    "write": ("write",),
    "probe": ("probe",),
}
"""By phase, the kinds of work that are done in it."""


def beside(planned: Sequence[Planned], timings: Sequence[Timing]) -> Iterator[str]:
    """A line a stage that ran here, and one of all of them: the wall clock of their processes, to
    which DVC's part between them is added alike."""
    took = {timing.stage: timing.total for timing in timings}
    both = [(one, took[one.stage]) for one in planned if one.stage in took]
    yield f"{'stage':<42} {'planned s':>10} {'took s':>8} {'ratio':>6}"
    for one, seconds in both:
        yield f"{one.stage:<42} {one.total:>10.1f} {seconds:>8.1f} {one.total / seconds:>6.2f}"
    if both:
        all_planned, all_took = sum(one.total for one, _ in both), sum(took for _, took in both)
        yield f"{'all':<42} {all_planned:>10.1f} {all_took:>8.1f} {all_planned / all_took:>6.2f}"


def refitted(planned: Sequence[Planned], timings: Sequence[Timing]) -> Iterator[str]:
    """A line for each of BESIDE that the timings tell of: what it is, and what would fit."""
    took = {timing.stage: timing.seconds for timing in timings}
    mine: dict[tuple[str, str], float] = defaultdict(float)
    theirs: dict[tuple[str, str], float] = defaultdict(float)
    for one in planned:
        spent = took.get(one.stage)
        if not spent or not one.model:
            continue
        main = "adapt" if "adapt" in one.seconds else "train"
        for phase, seconds in spent.items():
            kinds = PHASES.get(phase, ())
            if kinds:
                theirs[main if phase == "train" else kinds[0], one.model] += seconds
        for kind in (main, "read", "write", "probe"):
            products = one.products.get(kind, 0.0) / REACHED
            mine[kind, one.model] += one.seconds.get(kind, 0.0) - products
            theirs[kind, one.model] -= products
        theirs[main, one.model] -= one.seconds.get("update", 0.0)
    yield "BESIDE of stages/planning/machine.py:"
    for key, moved in BESIDE.items():
        if mine.get(key) and theirs.get(key, 0.0) > 0:
            yield f"    {key}: {moved:.1f} would be {moved * theirs[key] / mine[key]:.1f},"
    yield from _constants(planned, took)


def _constants(
    planned: Sequence[Planned], took: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    for one in planned:
        spent = dict(took.get(one.stage, {}))
        working = sum(spent.values()) - spent.get(START, 0.0)
        if "tables" in one.seconds and working > 0:
            would = DRAWN * one.seconds["tables"] / working
            yield f"DRAWN of stages/planning/planned.py: {DRAWN:.2g} would be {would:.2g}"
    starts = [spent[START] for spent in took.values() if START in spent]
    if starts:
        mean = sum(starts) / len(starts)
        yield f"PROCESS of stages/planning/planned.py: {PROCESS}; a start took {mean:.1f} s"
