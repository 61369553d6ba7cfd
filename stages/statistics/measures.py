"""What each kind of task is measured in, as one value an example whose mean is the figure."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats


@dataclass(frozen=True)
class Measure:
    """`of_text`: bits per byte, lower is better; else the mean of scores in [0, 1]."""

    name: str
    of_text: bool = False


ACCURACY = Measure("accuracy")
BITS_PER_BYTE = Measure("bits_per_byte", of_text=True)
MEASURES = {
    "classification": ACCURACY,
    "linear-probe": ACCURACY,
    "retrieval": Measure("hit_at_1"),
    "pair-classification": ACCURACY,
    "multiple-choice": ACCURACY,
    "language-modelling": BITS_PER_BYTE,
    "news-writing": BITS_PER_BYTE,
    "instruction-following": ACCURACY,
}
"""By kind of task; those of kind lm-eval say their metric themselves."""


def measure_for(kind: str, metric: str | None) -> Measure:
    """`metric`: what a task of kind lm-eval is scored by, bits_per_byte where it is text."""
    if metric is None:
        return MEASURES[kind]
    return BITS_PER_BYTE if metric == BITS_PER_BYTE.name else Measure(metric)


def values(records: pd.DataFrame, measure: Measure) -> Floats:
    """One value a record, [n], whose mean is the measure.

    Bits per byte of a set of texts is their bits by their bytes, so a text's value is its bits
    by the mean number of bytes.
    """
    if measure.of_text:
        bits = records["nll"].to_numpy(dtype=np.float64) / np.log(2)
        return np.asarray(bits / records["bytes"].to_numpy(dtype=np.float64).mean())
    return records["score"].to_numpy(dtype=np.float64)
