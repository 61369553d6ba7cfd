"""What a model wrote after prompts -> records."""

import json
from collections.abc import Sequence

import pandas as pd

from stages.scoring.frame import byte_count, record_frame
from stages.statistics.references import SCORES
from stages.tasks.examples import Examples

NEWLINE = "\n"


def ends_of(examples: Examples) -> tuple[str, ...]:
    """What ends an answer of the task, beside the model's own end."""
    return (NEWLINE,) if examples.task.options.get("stop_at_newline") else ()


def up_to(text: str, ends: Sequence[str]) -> str:
    """The text up to the first of `ends`, white space at its beginning aside."""
    text = text.strip()
    for end in ends:
        text = text.split(end)[0]
    return text.strip()


def completion_records(
    examples: Examples, split: str, written: Sequence[str], tokens: Sequence[int]
) -> pd.DataFrame:
    """score: by the task's metric. `bytes` are those of the prompt, `tokens` those of the answer;
    `target` holds the accepted texts as a list in JSON."""
    references, score = examples.references(), SCORES[examples.task.options["metric"]]
    return record_frame(
        examples,
        split,
        score=[score(*both) for both in zip(references, written, strict=True)],
        chance=0.0,
        bytes=byte_count(examples, ["prompt"]),
        tokens=list(tokens),
        prediction=list(written),
        target=[json.dumps(one, ensure_ascii=False) for one in references],
    )
