"""Noise on the way in: what a user types is not what a test set holds."""

import random
from collections.abc import Callable

from stages.config.evaluation import CONDITION
from stages.storage import fingerprint
from stages.tasks.examples import Examples

NOISED = {
    "classification": "text",
    "linear-probe": "text",
    "retrieval": "query",
    "pair-classification": "text_pair",
    "extractive-qa": "question",
    "multi-label": "text",
    "regression": "text",
    "pair-regression": "text_pair",
    "multiple-choice": "context",
    "instruction-following": "prompt",
    "completion": "prompt",
}
"""The column that a user would have typed, by kind of task; text tasks have none."""


def _typos(text: str, rate: float, draw: random.Random) -> str:
    """A share of the letters changes places with the next one, is left out, or is doubled."""
    signs = list(text)
    for at in range(len(signs) - 1):
        if signs[at].isalpha() and draw.random() < rate:
            kind = draw.randrange(3)
            if kind == 0:
                signs[at], signs[at + 1] = signs[at + 1], signs[at]
            else:
                signs[at] = "" if kind == 1 else signs[at] * 2
    return "".join(signs)


def _case(text: str, rate: float, draw: random.Random) -> str:
    """A share of the letters changes case."""
    return "".join(sign.swapcase() if draw.random() < rate else sign for sign in text)


def _words(text: str, rate: float, draw: random.Random) -> str:
    """A share of the words is left out, but never all of them."""
    words = text.split(" ")
    kept = [word for word in words if draw.random() >= rate]
    return " ".join(kept or words[:1])


NOISES: dict[str, Callable[[str, float, random.Random], str]] = {
    "typos": _typos,
    "case": _case,
    "words": _words,
}


def noisy(examples: Examples, condition: str, seed: int) -> Examples:
    """The same examples, ids included, with the typed column under `condition`.

    Each text's noise derives from (seed, condition, example), whatever else is asked. Raises
    ValueError for a condition that is not of the form of CONDITION.
    """
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"no such condition: {condition!r}")
    noise, rate = NOISES[match[1]], float(match[2])
    column = NOISED[examples.task.kind]
    texts = [
        noise(text, rate, random.Random(fingerprint(seed, condition, identity)))
        for text, identity in zip(
            examples.column(column), examples.column("example_id"), strict=True
        )
    ]
    return Examples(examples.task, examples.rows.assign(**{column: texts}))
