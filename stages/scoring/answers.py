"""What a head says of examples -> their records."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.inputs.encoder import labels_of
from stages.models.encoder import Inputs
from stages.models.probe import UNKNOWN, Probe
from stages.scoring.frame import byte_count, record_frame
from stages.scoring.spans import span_records
from stages.statistics.sets import f1, of_tags
from stages.tasks.examples import Examples

Floats = NDArray[np.floating]
TINY = 1e-12  # the smallest probability that enters a log: 27.6 nats
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
    return labelled_records(examples, split, head.probabilities(np.concatenate(features)))


def labelled_records(examples: Examples, split: str, probabilities: Floats) -> pd.DataFrame:
    """Records from class probabilities [n, labels]; chance is the commonest label's share."""
    targets = np.asarray(examples.targets())
    labels = np.asarray(examples.task.labels)
    predictions = probabilities.argmax(axis=1)
    of_target = probabilities[np.arange(len(targets)), targets]
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=(predictions == targets).astype(float),
        chance=float(np.bincount(targets).max() / len(targets)),
        nll=-np.log(np.maximum(of_target, TINY)),
        probabilities=list(probabilities.astype(np.float32)),
        prediction=labels[predictions],
        target=labels[targets],
    )


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
