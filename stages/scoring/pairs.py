"""Which of two sentences is likelier -> records."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from stages.scoring.frame import record_frame
from stages.tasks.examples import Examples


def pair_records(
    examples: Examples,
    split: str,
    logprobs: NDArray[np.float64],
    tokens: NDArray[np.int64],
    chance: float,
) -> pd.DataFrame:
    """`logprobs`, `tokens` [n, 2]: of the sentences in the two columns of the task's texts.

    score: the first is likelier, as a whole and not per byte (BLiMP, Warstadt et al. 2020, arXiv
    1912.00582, section 4); two as likely as each other score 0. nll: of the first among the two.
    """
    first, second = (examples.column(column) for column in examples.task.texts)
    shares = log_softmax(logprobs, axis=1)
    likelier = logprobs[:, 0] > logprobs[:, 1]
    pairs = zip(first, second, strict=True)
    lengths = [[len(sentence.encode()) for sentence in pair] for pair in pairs]
    return record_frame(
        examples,
        split,
        score=likelier.astype(float),
        chance=chance,
        nll=-shares[:, 0],
        bytes=[sum(row) for row in lengths],
        tokens=tokens.sum(axis=1),
        choice_logprobs=list(logprobs),
        choice_bytes=lengths,
        probabilities=list(np.exp(shares).astype(np.float32)),
        prediction=np.where(likelier, first, second),
        target=first,
    )
