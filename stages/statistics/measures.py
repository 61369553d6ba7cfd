"""What each kind of task is measured in, as one value an example whose mean is the figure."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from stages.config.kinds import WRITTEN
from stages.statistics.arrays import Floats
from stages.statistics.balance import balance, stereotyped
from stages.statistics.ranks import spearman
from stages.statistics.score_interval import OfDifferences, interval_for
from stages.statistics.sets import micro_f1, of_label, of_labels, of_tags
from stages.statistics.squad import exact_matches


@dataclass(frozen=True)
class Measure:
    """`of_text`: bits per byte, lower is better; else a figure of at most 1, higher is better: the
    mean of scores in [0, 1], or where `of_all` is given a figure of all examples together.

    `of_all`: records of one model -> a value each, whose mean is the figure (see `linearised`).
    """

    name: str
    of_text: bool = False
    of_all: Callable[[pd.DataFrame], Floats] | None = None
    least: float = 0.0
    """The lowest that the figure can be."""
    also: tuple[tuple[str, Callable[[pd.DataFrame], Floats]], ...] = ()
    """Figures given beside it, by name: a value in [0, 1] of each record, whose mean it is."""

    @property
    def interval(self) -> OfDifferences:
        """Of the mean of paired differences of `values`."""
        return interval_for(self.of_text, self.of_all is not None)


ACCURACY = Measure("accuracy")
BITS_PER_BYTE = Measure("bits_per_byte", of_text=True)
SPEARMAN = Measure("spearman", of_all=spearman, least=-1.0)
HIT_AT_1 = "hit_at_1"
"""Its examples are one another's distractors: more of them are harder."""
MEASURES = {
    "classification": ACCURACY,
    "linear-probe": ACCURACY,
    "retrieval": Measure(HIT_AT_1),
    "pair-classification": ACCURACY,
    "relation": ACCURACY,
    "token-classification": Measure("entity_f1", of_all=partial(micro_f1, items=of_tags)),
    "multi-label": Measure("micro_f1", of_all=partial(micro_f1, items=of_labels)),
    "regression": SPEARMAN,
    "pair-regression": SPEARMAN,
    "extractive-qa": Measure("token_f1", also=(("exact_match", exact_matches),)),
    "multiple-choice": ACCURACY,
    "language-modelling": BITS_PER_BYTE,
    "news-writing": BITS_PER_BYTE,
    "instruction-following": ACCURACY,
    "masked-lm": BITS_PER_BYTE,
    "minimal-pairs": ACCURACY,
    "bias-pairs": Measure("balance", of_all=balance, also=(("stereotype_share", stereotyped),)),
    "refusal": ACCURACY,
}
"""By kind of task; those of other kinds say their metric themselves."""
OF_COMPLETIONS = {
    "exact-match": Measure("exact_match"),
    "f1": Measure("token_f1"),
    "rouge-l": Measure("rouge_l"),
    "chrf": Measure("sentence_chrf"),
    "bleu": Measure("sentence_bleu"),
}
"""By the metric of a task of kind completion or chat: the mean of its examples' own scores; of chrF
and BLEU too, where the literature more often gives those of a corpus."""


def measure_for(kind: str, metric: str | None = None, negative: str | None = None) -> Measure:
    """`metric`: what a task of kind completion or chat is scored by; or one of kind lm-eval,
    bits_per_byte where it is text.
    `negative`: the label of a relation task that stands for none; F1 is then over the others, as
    TACRED has it (Zhang et al. 2017, section 4)."""
    if negative is not None:
        items = partial(of_label, negative=negative)
        return Measure("micro_f1", of_all=partial(micro_f1, items=items))
    if metric is None:
        return MEASURES[kind]
    if kind in WRITTEN:
        return OF_COMPLETIONS[metric]
    return BITS_PER_BYTE if metric == BITS_PER_BYTE.name else Measure(metric)


def values(records: pd.DataFrame, measure: Measure) -> Floats:
    """One value a record, [n], whose mean over the records of a seed is the measure.

    Bits per byte of a set of texts is their bits by their bytes, so a text's value is its bits
    by the mean number of bytes.
    """
    if measure.of_all:
        found = np.empty(len(records))
        for rows in records.groupby("seed").indices.values():
            found[rows] = measure.of_all(records.iloc[rows])
        return found
    if measure.of_text:
        bits = records["nll"].to_numpy(dtype=np.float64) / np.log(2)
        return np.asarray(bits / records["bytes"].to_numpy(dtype=np.float64).mean())
    return records["score"].to_numpy(dtype=np.float64)
