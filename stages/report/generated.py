"""Texts that base and run wrote on the same prompt, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from stages.report.transitions import check_known
from stages.report.words import clipped
from stages.statistics.rows import rows_of
from stages.tasks.examples import Examples

MOST = 2
"""Prompts shown of a topic."""
LETTERS = 700


@dataclass(frozen=True)
class Text:
    text: str
    on_topic: bool
    coherence: float


@dataclass(frozen=True)
class Written:
    topic: str
    prompt: str
    before: Text
    after: Text


def written(examples: Examples, base: pd.DataFrame, run: pd.DataFrame) -> tuple[Written, ...]:
    """The first texts of each topic in order of `example_id`, of the run's lowest seed.

    Empty where no text was generated.
    """
    before, after = (dict(_texts(records, examples.task.name)) for records in (base, run))
    known = examples.rows.set_index("example_id")
    check_known(examples.task.name, after, known)
    chosen = known.loc[sorted(after)].groupby("slice", sort=True).head(MOST)
    return tuple(
        Written(
            topic=str(row["slice"]),
            prompt=clipped(str(row["prompt"]), LETTERS),
            before=before[str(example_id)],
            after=after[str(example_id)],
        )
        for example_id, row in chosen.sort_values("slice", kind="stable").iterrows()
    )


def _texts(records: pd.DataFrame, task: str) -> Iterator[tuple[str, Text]]:
    """By example_id."""
    texts, coherent = (rows_of(records, task, name) for name in ("generated", "coherence"))
    texts, coherent = (part[part["seed"] == part["seed"].min()] for part in (texts, coherent))
    scores = dict(zip(coherent["example_id"], coherent["score"], strict=True))
    for row in texts.to_dict("records"):
        example_id, text = str(row["example_id"]), clipped(row["prediction"], LETTERS)
        yield example_id, Text(text, row["score"] == 1, scores[example_id])
