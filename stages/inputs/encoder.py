"""Examples as an encoder reads them, and what its head is to say; in training and scoring alike."""

from typing import Any

from stages.models.encoder import Inputs, Tokenizer
from stages.models.probe import UNKNOWN
from stages.tasks.examples import Examples


def read(examples: Examples, tokenizer: Tokenizer) -> Inputs:
    """The rows of a task that a head answers, one an example."""
    task, (text, *other) = examples.task, map(examples.column, examples.task.texts)
    if task.head == "words":
        return tokenizer.words(list(examples.rows["tokens"]), task.max_length)
    if other:
        return tokenizer.pairs(text, other[0], task.max_length)
    return Inputs(tokenizer(text, task.max_length))


def labels_of(examples: Examples, inputs: Inputs) -> list[Any]:
    """Of each row. classes: the index of its label. words: that of each place's tag, or UNKNOWN."""
    if inputs.items is None:
        return examples.targets()
    index = {tag: at for at, tag in enumerate(examples.task.labels)}
    return [
        [index.get(tags[item], UNKNOWN) for item in items]
        for tags, items in zip(examples.rows["tags"], inputs.items, strict=True)
    ]
