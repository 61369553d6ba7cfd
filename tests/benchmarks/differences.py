"""How the answers of two sides differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .exchange import Answer, Outcome


def farthest(one: Outcome, other: Outcome) -> float | None:
    """The largest absolute difference in log-likelihood, in nats, of a choice or of a whole text;
    None where texts are written."""
    pairs = zip(_likelihoods(one), _likelihoods(other), strict=True)
    return max((abs(mine - theirs) for mine, theirs in pairs), default=None)


def difference(ours: Outcome, theirs: Outcome) -> dict[str, Any]:
    """`log_likelihood`: see `farthest`. `metrics`: absolute differences. `predictions`: examples in
    which another choice is likelier or another text is written; None where there are none."""
    predicted = [[_prediction(row) for row in side.answers] for side in (ours, theirs)]
    unlike = sum(one != other for one, other in zip(*predicted, strict=True))
    return {
        "log_likelihood": farthest(ours, theirs),
        "metrics": {
            name: abs(value - theirs.metrics[name]) for name, value in ours.metrics.items()
        },
        "predictions": None if None in predicted[0] else unlike,
    }


def ties(outcome: Outcome) -> int | None:
    """Examples of which two choices are the likeliest alike: the first of them is the answer. None
    where nothing is chosen."""
    rows = ([answer[0] for answer in row if isinstance(answer, tuple)] for row in outcome.answers)
    chosen = [likelihoods for likelihoods in rows if len(likelihoods) > 1]
    if not chosen:
        return None
    return sum(row.count(max(row)) > 1 for row in chosen)


def _likelihoods(outcome: Outcome) -> list[float]:
    flat = [answer for row in outcome.answers for answer in row if not isinstance(answer, str)]
    return [answer[0] if isinstance(answer, tuple) else answer for answer in flat]


def _prediction(row: Sequence[Answer]) -> int | str | None:
    """The likeliest choice, or the text; a single continuation is predicted if it is greedy."""
    if isinstance(row[0], str):
        return row[0]
    choices = [answer for answer in row if isinstance(answer, tuple)]
    if not choices:
        return None
    likelihoods = [likelihood for likelihood, _ in choices]
    return int(np.argmax(likelihoods)) if len(choices) > 1 else int(choices[0][1])
