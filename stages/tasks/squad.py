"""SQuAD's JSON, version 1.1 or 2.0: questions on paragraphs, answered by a piece of them.

Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from stages.config.tasks import Squad
from stages.sources.pinned import Source
from stages.tasks.cells import WrongCellError, text_of
from stages.tasks.files import read_files
from stages.tasks.table_files import decoded, parsed


def read_squad(source: Source, config: Squad) -> pd.DataFrame:
    """question, context; answers and starts, lists: each answer and the character of the context
    that it begins at, none where the paragraph holds no answer; slice: whether it does.

    Raises UserError with the file and the question's number where it is no such JSON, or an answer
    is not where it is said to be.
    """
    return read_files(source, config, lambda name: _rows(source.read(name)))


def _rows(content: bytes) -> list[dict[str, Any]]:
    told = parsed(decoded(content), 1)
    rows: list[dict[str, Any]] = []
    try:
        for context, question in _questions(told):
            rows.append(_row(len(rows) + 1, context, question))
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"is not what SQuAD has ({type(error).__name__}: {error})"
        raise WrongCellError(len(rows) + 1, None, reason) from None
    if not rows:
        raise WrongCellError(0, None, "has no questions")
    return rows


def _questions(told: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    for article in told["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield paragraph["context"], question


def _row(number: int, context: Any, told: dict[str, Any]) -> dict[str, Any]:
    # In version 2.0 a question without an answer has a plausible one beside it.
    given = [] if told.get("is_impossible") else told["answers"]
    text = text_of(context, number, "context")
    answers = [text_of(answer["text"], number, "answers") for answer in given]
    starts = [answer["answer_start"] for answer in given]
    for answer, start in zip(answers, starts, strict=True):
        if not isinstance(start, int) or start < 0 or not text.startswith(answer, start):
            reason = f"{answer[:40]!r} does not stand at character {start} of its context"
            raise WrongCellError(number, "answers", reason)
    return {
        "question": text_of(told["question"], number, "question"),
        "context": text,
        "answers": answers,
        "starts": starts,
        "slice": "answered" if answers else "no answer",
    }
