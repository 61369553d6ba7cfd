"""The variants of a run beside it: what each gained and lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.lines import OF_RUN, Line, lines
from stages.report.measured import Ran
from stages.report.ranking import mean_change, unseen_of
from stages.statistics.variants import FINAL

MEAN, SIZE = "mean of unseen, points", "size, MB"


@dataclass(frozen=True)
class Derived:
    """A table: `head` over `rows`, the run itself first. Changes are positive where better."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def derived(
    run: str, ran: Ran, scores: Mapping[str, Any], seen_in_case: Sequence[str]
) -> Derived | None:
    """`scores`: the case's part of scores.json. None of a run without variants.

    The mean is over the accuracy-like retain tasks that no run of the case has seen.
    """
    if not ran.variants:
        return None
    named = {FINAL: run} | {name: f"{run}{OF_RUN}{name}" for name in ran.variants}
    tables = {
        name: lines({"base": scores["base"], called: scores[called]})
        for name, called in named.items()
    }
    sizes: Mapping[str, int] = ran.records.about["bytes"]
    return Derived(
        head=(
            "variant",
            *(f"{line.label}, {line.unit.step}" for line in tables[FINAL]),
            MEAN,
            SIZE,
        ),
        rows=tuple(
            (
                name,
                *(line.unit.change_between(line.change) for line in table),
                mean_of_unseen(table, seen_in_case),
                f"{sizes[name] / 1e6:.1f}",
            )
            for name, table in tables.items()
        ),
    )


def mean_of_unseen(table: Sequence[Line], seen_in_case: Sequence[str]) -> str:
    unseen = unseen_of(table, seen_in_case)
    return f"{mean_change(unseen):+.1f}" if unseen else "-"
