"""How far a target's data is from what the model is to keep, seen by the untouched model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stages.drift.states import Floats, vectors
from stages.drift.texts import encode, texts_of
from stages.models.loading import Loaded
from stages.statistics import shift
from stages.tasks.examples import Examples

TEXTS = 200
"""Of a sample, at most."""
SAME, GENERAL = "same source", "all retain tasks"
"""Beside the tasks: two halves of the training texts, and a share of every retain task. Where there
are several targets, two halves of one's training texts go by SAME, a comma and its name."""
DECIMALS = 4


def data_shift(
    loaded: Loaded,
    train: Sequence[Examples],
    target: Sequence[Examples],
    retain: Sequence[Examples],
    batch_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """A target's training texts against its test texts; those of all targets, as many of each,
    against every retain task's test texts.

    `comparisons`, by task, GENERAL and SAME, whose figures are what no difference looks like: see
    stages/statistics/shift.py. `labels`: of each target that has any; `rows`: of training, by each.
    """
    ours, other_half = _halves(train)
    pairs = {SAME: (ours, other_half)}
    for part, test in zip(train, target, strict=True):
        own, own_half = _halves([part])
        if len(train) > 1:
            pairs[f"{SAME}, {part.task.name}"] = own, own_half
        pairs[part.task.name] = own, _texts(test, TEXTS)
    share = max(1, TEXTS // len(retain))
    pairs |= {test.task.name: (ours, _texts(test, TEXTS)) for test in retain}
    pairs[GENERAL] = ours, [text for test in retain for text in _texts(test, share)]
    embedded = _embedded(loaded, [side for pair in pairs.values() for side in pair], batch_tokens)
    compared = {
        name: _compare(*pair, embedded, seed)
        for name, pair in pairs.items()
        if min(map(len, pair)) >= shift.FOLDS
    }
    labels = {
        part.task.name: dict(_labels({"train": part, "test": test}))
        for part, test in zip(train, target, strict=True)
        if part.task.labelled
    }
    return {"texts": len(ours), "comparisons": compared, "labels": labels}


def _halves(parts: Sequence[Examples]) -> tuple[list[str], list[str]]:
    """At most TEXTS each, as many of every part."""
    # Ids are hashes: every other text is as good a half as the rest.
    both = [text for part in parts for text in _texts(part, 2 * TEXTS // len(parts))]
    return both[::2], both[1::2]


def _texts(examples: Examples, most: int) -> list[str]:
    return [text for _, text in texts_of(examples, most)]


def _embedded(
    loaded: Loaded, samples: Sequence[Sequence[str]], batch_tokens: int
) -> dict[str, Floats]:
    """A vector for every text; one that stands in two samples is read once."""
    texts = list(dict.fromkeys(text for sample in samples for text in sample))
    return dict(zip(texts, vectors(loaded, encode(loaded, texts), batch_tokens), strict=True))


def _compare(
    ours: Sequence[str], theirs: Sequence[str], embedded: Mapping[str, Floats], seed: int
) -> dict[str, float | int]:
    x, y = (np.stack([embedded[text] for text in side]) for side in (ours, theirs))
    # Samples of one size: a smaller one has rarer trigrams and knows fewer words.
    size = min(len(ours), len(theirs))
    apart = shift.separation(x, y, seed)
    found = {
        "n_grams": shift.n_gram_distance(ours[:size], theirs[:size]),
        "embeddings": shift.embedding_distance(x, y),
        "auc": apart.auc,
        "auc_error": apart.error,
        "unknown_words": shift.unknown_words(ours, theirs),
        "words": shift.mean_length(ours),
        "words_there": shift.mean_length(theirs),
    }
    return {"n": len(theirs), **{name: round(value, DECIMALS) for name, value in found.items()}}


def _labels(splits: Mapping[str, Examples]) -> Iterator[tuple[str, Any]]:
    counts = {
        name: np.bincount(part.targets(), minlength=len(part.task.labels)).astype(float)
        for name, part in splits.items()
    }
    for name, of_split in counts.items():
        figures = shift.balance(of_split)
        yield name, {key: round(value, DECIMALS) for key, value in figures.items()}
    yield "moved", round(shift.total_variation(*counts.values()), DECIMALS)
    labels = splits["train"].task.labels
    yield "rows", dict(zip(labels, counts["train"].astype(int).tolist(), strict=True))
