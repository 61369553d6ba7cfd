"""What a head says of examples -> their records."""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from stages.inputs.encoder import labels_of
from stages.models.probe import UNKNOWN, Probe
from stages.models.texts import Inputs
from stages.scoring.frame import byte_count, record_frame
from stages.scoring.spans import span_records
from stages.statistics.sets import f1, of_tags
from stages.tasks.examples import Examples

Floats = NDArray[np.floating]
TINY = 1e-12  # the smallest probability that enters a log: 27.6 nats
HALF = 0.5
OUTSIDE = "O"
"""The tag of a word that belongs to no entity, and of one that the model has not read."""


def answered(
    examples: Examples, split: str, inputs: Inputs, head: Probe, features: Sequence[Floats]
) -> pd.DataFrame:
    """`features`: of each row of `inputs`, [k, hidden]."""
    if examples.task.head == "words":
        return tagged_records(
            examples, split, inputs, [head.probabilities(row) for row in features]
        )
    if examples.task.head == "span":
        return span_records(examples, split, inputs, [head.logits(row) for row in features])
    logits = head.logits(np.concatenate(features))
    if examples.task.head == "labels":
        return multi_label_records(examples, split, expit(logits))
    if examples.task.head == "value":
        return value_records(examples, split, logits[:, 0])
    return labelled_records(examples, split, head.probabilities(np.concatenate(features)))


def labelled_records(examples: Examples, split: str, probabilities: Floats) -> pd.DataFrame:
    """Records from class probabilities [n, labels]; chance is what the best answer that is the same
    for all comes to: the commonest label's share, or its F1 beside a label that stands for none."""
    targets = np.asarray(examples.targets())
    labels = np.asarray(examples.task.labels)
    predictions = probabilities.argmax(axis=1)
    of_target = probabilities[np.arange(len(targets)), targets]
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=(predictions == targets).astype(float),
        chance=_chance(labels[targets], examples.task.options.get("negative")),
        nll=-np.log(np.maximum(of_target, TINY)),
        probabilities=list(probabilities.astype(np.float32)),
        prediction=labels[predictions],
        target=labels[targets],
    )


def _chance(targets: NDArray[np.str_], negative: str | None) -> float:
    names, counts = np.unique(targets, return_counts=True)
    if negative is None:
        return float(counts.max() / len(targets))
    found = counts[names != negative]
    return float(2 * found.max(initial=0) / (found.sum() + len(targets)))


def tagged_records(
    examples: Examples, split: str, inputs: Inputs, probabilities: Sequence[Floats]
) -> pd.DataFrame:
    """Records from probabilities [places, tags] of each sentence; answers are its tags.

    score: F1 of the sentence's own entities. nll: over its words whose tag is known.
    """
    assert inputs.items is not None
    named = np.asarray(examples.task.labels)
    targets = [" ".join(tags) for tags in examples.rows["tags"]]
    predictions, losses = [], []
    rows = zip(
        examples.rows["tags"], inputs.items, labels_of(examples, inputs), probabilities, strict=True
    )
    for tags, items, labels, of_places in rows:
        found = np.full(len(tags), OUTSIDE, dtype=object)
        found[items] = named[of_places.argmax(axis=1)]
        predictions.append(" ".join(found))
        known = np.flatnonzero(np.asarray(labels) != UNKNOWN)
        of_target = of_places[known, np.asarray(labels, dtype=int)[known]]
        losses.append(float(-np.log(np.maximum(of_target, TINY)).sum()))
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=[
            f1(of_tags(one), of_tags(two)) for one, two in zip(targets, predictions, strict=True)
        ],
        chance=0.0,
        nll=losses,
        prediction=predictions,
        target=targets,
    )


def multi_label_records(examples: Examples, split: str, probabilities: Floats) -> pd.DataFrame:
    """Records from probabilities [n, labels]; an answer is every label of more than a half.

    score: F1 of the text's own labels. nll: summed over the labels that the train split has.
    """
    named = np.asarray(examples.task.labels)
    targets = [[str(label) for label in labels] for labels in examples.rows["labels"]]
    predictions = [named[row > HALF].tolist() for row in probabilities]
    wanted = np.array(labels_of(examples, Inputs([])), dtype=bool)
    right = np.where(wanted, probabilities, 1 - probabilities)
    pairs = zip(targets, predictions, strict=True)
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=[f1(set(target), set(found)) for target, found in pairs],
        chance=best_constant_f1(targets),
        nll=-np.log(np.maximum(right, TINY)).sum(axis=1),
        prediction=[json.dumps(found, ensure_ascii=False) for found in predictions],
        target=[json.dumps(labels, ensure_ascii=False) for labels in targets],
    )


def best_constant_f1(targets: Sequence[Sequence[str]]) -> float:
    """Micro F1 of the best answer that is the same for all: the commonest labels, some or all."""
    counts = sorted(Counter(label for labels in targets for label in labels).values(), reverse=True)
    hits, total = np.cumsum(counts), sum(counts)
    answered = len(targets) * np.arange(1, len(counts) + 1)
    return float((2 * hits / (answered + total)).max()) if counts else 0.0


def value_records(examples: Examples, split: str, values: Floats) -> pd.DataFrame:
    """Records from values [n], in spreads of the train split from its mean.

    score: 1 - the error as a share of the train split's range, not below 0. Answers are in the unit
    of the data, to as many digits as make them the same number again.
    """
    options = examples.task.options
    targets = examples.rows["value"].astype(float).to_numpy()
    found = options["mean"] + options["spread"] * values.astype(float)
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=np.maximum(0.0, 1 - np.abs(found - targets) / options["range"]),
        chance=0.0,
        prediction=[repr(float(value)) for value in found],
        target=[repr(float(value)) for value in targets],
    )
