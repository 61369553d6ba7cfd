"""Answers that are sets: the entities of a sentence, the labels of a text. F1 of all together."""

import json
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats

Items = Callable[[str], set[Hashable]]
"""What a record's `target` or `prediction` holds -> its items."""


def entities(tags: Sequence[str]) -> set[Hashable]:
    """(type, first, last) of each entity that the tags of a sentence's words mark.

    Tags are `O` or `<prefix>-<type>` with the prefixes of IOB1, IOB2 and IOBES. By the rules of
    conlleval (Tjong Kim Sang and Buchholz 2000), which seqeval's default mode has too: an entity
    begins at B or S, after O, E or S, and where the type changes, whatever the prefix.
    """
    found: set[Hashable] = set()
    begun, (prefix, kind) = 0, ("O", "")
    for place, tag in enumerate((*tags, "O")):
        last, before = prefix, kind
        prefix, _, kind = tag.partition("-")
        begins = prefix in ("B", "S") or last in ("O", "E", "S") or kind != before
        if last != "O" and (begins or prefix == "O"):
            found.add((before, begun, place - 1))
        if prefix != "O" and begins:
            begun = place
    return found


def of_tags(text: str) -> set[Hashable]:
    """Entities of a sentence's tags, a space between two."""
    return entities(text.split(" "))


def of_labels(text: str) -> set[Hashable]:
    """Labels, as a list in JSON."""
    return set(json.loads(text))


def of_label(text: str, negative: str) -> set[Hashable]:
    """The one label, unless it is the one that stands for none."""
    return set() if text == negative else {text}


def f1(target: set[Hashable], prediction: set[Hashable]) -> float:
    """2 |both| / (|target| + |prediction|); of one example, 1 where both are empty."""
    size = len(target) + len(prediction)
    return 2 * len(target & prediction) / size if size else 1.0


def micro_f1(records: pd.DataFrame, items: Items) -> Floats:
    """One value a record, [n], whose mean is F1 over all of them: twice the items that were both to
    be found and found, by those to be found and those found. 0 where there are neither, as seqeval
    and scikit-learn have it.

    See `linearised` for what a value is.
    """
    pairs = [
        (items(str(target)), items(str(prediction)))
        for target, prediction in zip(records["target"], records["prediction"], strict=True)
    ]
    both = np.array([2 * len(target & found) for target, found in pairs], dtype=np.float64)
    size = np.array([len(target) + len(found) for target, found in pairs], dtype=np.float64)
    return linearised(both, size)


def linearised(part: Floats, whole: Floats) -> Floats:
    """Values [n] whose mean is the ratio r = sum(part) / sum(whole), of parts and wholes [n].

    r + (part - r whole) / mean(whole): its Taylor linearisation (Cochran 1977, section 6.4;
    Woodruff 1971, JASA 66, 411-414), so that what is known of means holds of ratios: resampled,
    paired and clustered, a mean of these values varies as the ratio does, to first order. A value
    is not bounded. 0 where the wholes are all 0.
    """
    if not whole.any():
        return np.zeros(len(whole))
    ratio = part.sum() / whole.sum()
    return np.asarray(ratio + (part - ratio * whole) / whole.mean(), dtype=np.float64)
