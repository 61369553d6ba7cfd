"""What was right and is wrong now, and the other way round, with the texts themselves."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from stages.errors import UserError
from stages.report.words import clipped
from stages.statistics.measures import measure_for
from stages.statistics.rows import rows_of
from stages.tasks.examples import COLUMNS, Examples

MOST = 5
"""Examples shown of a direction."""
LETTERS = 300


@dataclass(frozen=True)
class Flip:
    """An example. `sure`: in how many of the run's seeds it turned; empty for a single seed."""

    question: str
    choices: tuple[str, ...]
    target: str
    before: str
    after: str
    sure: str


@dataclass(frozen=True)
class Flips:
    """A run on a task. The counts are of examples that changed in one seed at least."""

    task: str
    lost: int
    won: int
    lost_shown: tuple[Flip, ...]
    won_shown: tuple[Flip, ...]


def flips(examples: Examples, base: pd.DataFrame, run: pd.DataFrame) -> Flips | None:
    """`examples`: of the test split; `base` and `run`: records. None for a task of bits per byte,
    and of bias-pairs, of which neither sentence is the right answer.

    First come those that changed in the most seeds, ties in order of `example_id`; the answer
    after is that of the lowest such seed.
    """
    task = examples.task
    measure = measure_for(task.kind, task.options.get("metric"), task.options.get("negative"))
    if measure.of_text or task.kind == "bias-pairs":
        return None
    before, after = (rows_of(records, task.name) for records in (base, run))
    known = examples.rows.set_index("example_id")
    check_known(task.name, after["example_id"], known)
    joined = after.merge(
        before[["example_id", "score", "prediction"]],
        on="example_id",
        suffixes=("", "_base"),
        validate="m:1",
    )
    seeds = joined["seed"].nunique()
    found = []
    for was in (1, 0):
        turned = joined[(joined["score_base"] == was) & (joined["score"] == 1 - was)]
        times = Counter(map(str, turned["example_id"]))
        ranked = sorted(times, key=lambda example_id: (-times[example_id], example_id))
        first = turned.sort_values("seed").drop_duplicates("example_id").set_index("example_id")
        shown = tuple(
            _flip(
                examples, known, first, one, f"{times[one]} of {seeds} seeds" if seeds > 1 else ""
            )
            for one in ranked[:MOST]
        )
        found.append((len(ranked), shown))
    (lost, lost_shown), (won, won_shown) = found
    return Flips(task.name, lost, won, lost_shown, won_shown)


def check_known(task: str, ids: Iterable[str], known: pd.DataFrame) -> None:
    """Raises UserError where records ask what the data does not hold."""
    strange = set(ids) - set(known.index)
    if strange:
        raise UserError(
            f"{len(strange)} test examples of {task} are in its records, not in its data; "
            "run `dvc repro`"
        )


def _flip(
    examples: Examples, known: pd.DataFrame, turned: pd.DataFrame, example_id: str, sure: str
) -> Flip:
    row, record = known.loc[example_id], turned.loc[example_id]

    def shown(answer: object) -> str:
        # A retrieved document is recorded by its example's id.
        text = known["document"][str(answer)] if "document" in known else answer
        return clipped(str(text), LETTERS)

    return Flip(
        question=clipped(str(row[COLUMNS[examples.task.kind][0]]), LETTERS),
        choices=tuple(clipped(str(choice), LETTERS // 3) for choice in row.get("choices", ())),
        target=shown(record["target"]),
        before=shown(record["prediction_base"]),
        after=shown(record["prediction"]),
        sure=sure,
    )
