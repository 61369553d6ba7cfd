"""Where a question's answer begins and ends, in windows of its context -> records."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.models.texts import Inputs
from stages.scoring.frame import byte_count, record_frame
from stages.statistics.squad import token_f1
from stages.tasks.examples import Examples

Floats = NDArray[np.floating]
LONGEST = 30
"""Tokens of an answer, as in BERT's own run on SQuAD (Devlin et al. 2019)."""


def span_records(
    examples: Examples, split: str, inputs: Inputs, logits: Sequence[Floats]
) -> pd.DataFrame:
    """Records from logits [places, 2] of each window: of the answer's first and last token.

    The span with the largest sum of both, over all windows of a question; of a task with questions
    without an answer none, where the first place has more in every window. score: token F1.
    """
    assert inputs.items is not None
    assert inputs.owners is not None
    best = [(-np.inf, 0, 0) for _ in range(len(examples))]
    none = np.full(len(examples), np.inf)
    for owner, items, of_window in zip(inputs.owners, inputs.items, logits, strict=True):
        none[owner] = min(none[owner], of_window[0].sum())
        score, first, last = best_span(of_window[1:, 0], of_window[1:, 1])
        if score > best[owner][0]:
            best[owner] = (score, items[1 + first][0], items[1 + last][1])
    refuses = examples.task.options["no_answer"]
    contexts, answers = examples.column("context"), list(map(list, examples.rows["answers"]))
    predictions = [
        "" if refuses and nothing > score else context[first:last]
        for context, nothing, (score, first, last) in zip(contexts, none, best, strict=True)
    ]
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=[token_f1(*pair) for pair in zip(answers, predictions, strict=True)],
        chance=sum(not one for one in answers) / len(answers) if refuses else 0.0,
        prediction=predictions,
        target=[json.dumps(one, ensure_ascii=False) for one in answers],
    )


def best_span(firsts: Floats, lasts: Floats) -> tuple[float, int, int]:
    """The largest firsts[i] + lasts[j] with i <= j < i + LONGEST, of logits [k]; i and j."""
    best = (-np.inf, 0, 0)
    for width in range(min(LONGEST, len(firsts))):
        sums = firsts[: len(firsts) - width] + lasts[width:]
        at = int(sums.argmax())
        if sums[at] > best[0]:
            best = (float(sums[at]), at, at + width)
    return best
