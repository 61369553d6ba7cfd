"""SQuAD's JSON, version 1.1 or 2.0, or parquet as the hub has it: questions on paragraphs, answered
by a piece of them.

Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.readers import Squad
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
    return read_files(source, config, lambda name: _rows(name, source.read(name)))


def _rows(name: str, content: bytes) -> list[dict[str, Any]]:
    if name.endswith(".parquet"):
        questions = _of_table(content)
    else:
        questions = _questions(parsed(decoded(content), 1))
    rows: list[dict[str, Any]] = []
    try:
        for context, question in questions:
            rows.append(_row(len(rows) + 1, context, question))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"is not what SQuAD has ({type(error).__name__}: {error})"
        raise WrongCellError(len(rows) + 1, None, reason) from None
    if not rows:
        raise WrongCellError(0, None, "has no questions")
    return rows


def _of_table(content: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Of rows with question, context and answers, whose texts and starts are two lists."""
    try:
        table = pq.read_table(pa.BufferReader(content), columns=["question", "context", "answers"])
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WrongCellError(0, None, f"is not Parquet as SQuAD has it: {reason}") from None
    for row in rows:
        told = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in told]
        yield row["context"], {"question": row["question"], "answers": answers}


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
