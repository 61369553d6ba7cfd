"""Examples as an encoder reads them, in training and in scoring alike."""

from stages.models.encoder import Inputs, Tokenizer
from stages.tasks.examples import Examples


def read(examples: Examples, tokenizer: Tokenizer) -> Inputs:
    """The rows of a task that a head answers, one an example."""
    task, (text, *other) = examples.task, map(examples.column, examples.task.texts)
    if other:
        return tokenizer.pairs(text, other[0], task.max_length)
    return Inputs(tokenizer(text, task.max_length))
