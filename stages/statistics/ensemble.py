"""Several models that answer as one: the mean of their probabilities, from their records.

A linear opinion pool (Stone 1961, Annals of Mathematical Statistics 32, 1339-1342), and what an
ensemble of networks is (Lakshminarayanan et al. 2017, arXiv 1612.01474, section 2.4).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import log_softmax, logsumexp

TINY = 1e-12
"""The smallest probability that enters a log, as in the records."""


def of_labels(members: Sequence[pd.DataFrame], labels: Sequence[str]) -> pd.DataFrame:
    """Records of one labelled task, of each member the same examples -> those of the ensemble.

    The likeliest label by the mean of the members' probabilities, all members alike.
    """
    rows = [_in_order(one) for one in members]
    probabilities = np.mean([np.stack([*one["probabilities"]]) for one in rows], axis=0)
    named = np.asarray(labels)
    targets = rows[0]["target"].to_numpy()
    predictions = named[probabilities.argmax(axis=1)]
    places = [{label: at for at, label in enumerate(labels)}[target] for target in targets]
    of_target = probabilities[np.arange(len(targets)), places]
    return rows[0].assign(
        score=(predictions == targets).astype(float),
        nll=-np.log(np.maximum(of_target, TINY)),
        probabilities=list(probabilities.astype(np.float32)),
        prediction=predictions,
    )


def of_choices(
    members: Sequence[pd.DataFrame], asked: Mapping[str, tuple[Sequence[str], int]]
) -> pd.DataFrame:
    """Records of one multiple-choice task, of each member the same examples -> the ensemble's.

    A choice's probability after its context is the mean of the members'; then the rule that each
    of them follows: the likeliest choice, per byte where `choice_bytes` has them. `asked`: choices
    and answer by example.
    """
    rows = [_in_order(one) for one in members]
    found = []
    for at, example in enumerate(rows[0]["example_id"]):
        choices, answer = asked[example]
        each = np.stack([one["choice_logprobs"].iloc[at] for one in rows])
        logprobs = logsumexp(each, axis=0) - np.log(len(rows))
        lengths = rows[0]["choice_bytes"].iloc[at]
        best = int((logprobs if lengths is None else logprobs / lengths).argmax())
        shares = log_softmax(logprobs)
        found.append(
            {
                "score": float(best == answer),
                "nll": -float(shares[answer]),
                "choice_logprobs": logprobs,
                "probabilities": np.exp(shares).astype(np.float32),
                "prediction": str(choices[best]).strip(),
            }
        )
    return rows[0].assign(**{key: [one[key] for one in found] for key in found[0]})


def _in_order(records: pd.DataFrame) -> pd.DataFrame:
    return records.sort_values(["split", "example_id"], ignore_index=True)
