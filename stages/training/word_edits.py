"""Edits of a text's words that are meant to keep what it says (Wei and Zou 2019, arXiv 1901.11196,
section 2). Each takes the words, the share of them to edit, and what to draw from."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

Thesaurus = Mapping[str, Sequence[str]]
"""Synonyms of each word, in lower case."""
Edit = Callable[[list[str], float, random.Random], list[str]]

CORE = re.compile(r"(\W*)(.*?)(\W*)")


def swap(words: list[str], share: float, draw: random.Random) -> list[str]:
    """Two words at random change places, once for each word of the share, once at least."""
    words = list(words)
    for _ in range(_count(words, share) if len(words) > 1 else 0):
        one, other = draw.sample(range(len(words)), 2)
        words[one], words[other] = words[other], words[one]
    return words


def delete(words: list[str], share: float, draw: random.Random) -> list[str]:
    """Each word is left out with this probability, but never all of them."""
    kept = [word for word in words if draw.random() >= share]
    return kept or draw.sample(words, min(1, len(words)))


def replace(thesaurus: Thesaurus) -> Edit:
    """The edit that puts a synonym in the place of the share, one word at least; words of which
    none is known stay."""

    def edit(words: list[str], share: float, draw: random.Random) -> list[str]:
        words = list(words)
        known = [place for place, word in enumerate(words) if _core(word)[1].lower() in thesaurus]
        for place in draw.sample(known, min(len(known), _count(words, share))):
            before, core, after = _core(words[place])
            synonym = draw.choice(thesaurus[core.lower()])
            if core[:1].isupper():
                synonym = synonym[:1].upper() + synonym[1:]
            words[place] = before + synonym + after
        return words

    return edit


def _count(words: list[str], share: float) -> int:
    return max(1, int(share * len(words)))


def _core(word: str) -> tuple[str, str, str]:
    """A word, and the punctuation before and after it."""
    match = CORE.fullmatch(word)
    assert match
    return match[1], match[2], match[3]
