"""Examples as an encoder reads them, and what its head is to say; in training and scoring alike."""

from collections.abc import Sequence
from typing import Any

from stages.inputs.relation import marked, read_entities
from stages.models.probe import UNKNOWN
from stages.models.texts import Inputs, Tokenizer
from stages.tasks.examples import Examples


def read(examples: Examples, tokenizer: Tokenizer) -> Inputs:
    """The rows of a task that a head answers, one an example; of a question on a long context, as
    many as its windows."""
    task, (text, *other) = examples.task, map(examples.column, examples.task.texts)
    if task.head == "words":
        return tokenizer.words(list(examples.rows["tokens"]), task.max_length)
    if task.head == "entities":
        return read_entities(examples, tokenizer)
    if task.head == "span":
        return tokenizer.windows(text, other[0], task.max_length)
    if other:
        return tokenizer.pairs(text, other[0], task.max_length)
    return Inputs(tokenizer(text, task.max_length))


def truncated(examples: Examples, tokenizer: Tokenizer) -> int:
    """How many texts, or pairs of texts, are longer than what is read of them."""
    task = examples.task
    if task.head == "span":
        return 0  # windows leave nothing of a context unread
    columns = [examples.column(name) for name in task.texts]
    if task.head == "entities":
        columns = [[text for text, _ in marked(examples)]]
    elif not task.head:
        columns = [[text for column in columns for text in column]]
    return tokenizer.truncated(*columns, max_length=task.max_length)


def labels_of(examples: Examples, inputs: Inputs) -> list[Any]:
    """Of each row, by what the head gives.

    classes, entities: the index of its label. words: that of each place's tag, or UNKNOWN. span:
    the places of the first answer's first and last token; 0 and 0 where the window does not hold
    it. labels: 1 or 0 for each. value: in spreads of the train split from its mean.
    """
    if examples.task.head == "words":
        return _tags(examples, inputs)
    if examples.task.head == "span":
        return _spans(examples, inputs)
    if examples.task.head == "labels":
        labels = map(set, examples.rows["labels"])
        return [[float(label in row) for label in examples.task.labels] for row in labels]
    if examples.task.head == "value":
        mean, spread = (examples.task.options[key] for key in ("mean", "spread"))
        return [(float(value) - mean) / spread for value in examples.rows["value"]]
    return examples.targets()


def _tags(examples: Examples, inputs: Inputs) -> list[list[int]]:
    assert inputs.items is not None
    index = {tag: at for at, tag in enumerate(examples.task.labels)}
    return [
        [index.get(tags[item], UNKNOWN) for item in items]
        for tags, items in zip(examples.rows["tags"], inputs.items, strict=True)
    ]


def _spans(examples: Examples, inputs: Inputs) -> list[tuple[int, int]]:
    assert inputs.items is not None
    assert inputs.owners is not None
    answers, starts = list(examples.rows["answers"]), list(examples.rows["starts"])
    return [
        _span(items, int(starts[owner][0]), answers[owner][0]) if len(answers[owner]) else (0, 0)
        for owner, items in zip(inputs.owners, inputs.items, strict=True)
    ]


def _span(items: Sequence[tuple[int, int]], start: int, answer: str) -> tuple[int, int]:
    end = start + len(answer)
    if len(items) < 2 or items[1][0] > start or items[-1][1] < end:
        return 0, 0
    first = next(at for at, (_, stop) in enumerate(items) if at and stop > start)
    last = max(at for at, (begin, _) in enumerate(items) if at and begin < end)
    # Within white space that no token has, an answer has no place.
    return (first, last) if first <= last else (0, 0)
