"""The texts of a case on which models and data are held against each other: always the same."""

from collections.abc import Sequence

from stages.models.loading import EncoderModel, Loaded, Seq2SeqModel
from stages.models.texts import TokenIds
from stages.tasks.examples import Examples

TOKENS = 64
"""Read of a text, at most."""


def texts_of(examples: Examples, most: int) -> list[tuple[str, str]]:
    """(example_id, text) of the first `most` examples in order of their ids, which are hashes.

    A text is what the task's kind compares its rows by, see `TEXTS`.
    """
    columns = [examples.column(name) for name in examples.task.texts]
    joined = [" ".join(parts) for parts in zip(*columns, strict=True)]
    return sorted(zip(examples.column("example_id"), joined, strict=True))[:most]


def encode(loaded: Loaded, texts: Sequence[str]) -> list[TokenIds]:
    """Token ids of each text, cut at TOKENS. A causal model's begin with its BOS token."""
    if isinstance(loaded, EncoderModel):
        return loaded.tokenizer(texts, TOKENS)
    if isinstance(loaded, Seq2SeqModel):
        return loaded.tokenizer(texts, TOKENS)
    pairs = (loaded.tokenizer.pair("", text) for text in texts)
    return [(context + ids)[:TOKENS] for context, ids in pairs]
