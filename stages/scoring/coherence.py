"""How well the sentences of a text hang together."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Embedding = Callable[[list[str]], NDArray[np.floating]]
"""n texts -> unit vectors [n, dimensions]."""
SENTENCE_END = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["')\]\u2019\u201d])\s+|\n+""")


def sentences(text: str) -> list[str]:
    """Cut after `.`, `!` or `?` (and a closing quote or bracket) before white space, and at
    line breaks; parts without a letter or digit are left out. Abbreviations are cut too."""
    return [part.strip() for part in SENTENCE_END.split(text) if re.search(r"\w", part)]


def coherence(texts: Sequence[str], embedding: Embedding) -> list[float]:
    """The mean cosine of adjacent sentences of each text, in [0, 1].

    A text of fewer than two sentences scores 0: it shows no coherence; and so does a negative
    mean, as a score has no room for it.
    """
    parts = [sentences(text) for text in texts]
    flat = [sentence for row in parts for sentence in row]
    if not flat:
        return [0.0] * len(texts)
    starts = np.cumsum([len(row) for row in parts])[:-1]
    vectors = np.split(np.asarray(embedding(flat)), starts)
    cosines = [(own[:-1] * own[1:]).sum(axis=1) for own in vectors]
    return [float(np.clip(own.mean(), 0, 1)) if len(own) else 0.0 for own in cosines]
