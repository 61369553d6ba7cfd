"""Generated texts: do they keep to the topic, hang together, and differ from each other?"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from sacrebleu.metrics.bleu import BLEU
from scipy.stats import norm

from stages.statistics.intervals import Bootstrap, Interval


def _bigrams(text: str) -> Counter[tuple[str, str]]:
    words = text.split()
    return Counter(pairwise(words))


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct by all bigrams of words, over the texts together (Li et al. 2016, section 5.1).

    1: none stands twice. 0 where there is no bigram.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for text in texts:
        counts.update(_bigrams(text))
    return len(counts) / counts.total() if counts else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against the others, in [0, 1] (Zhu et al. 2018, section 3.3).

    High: the texts are alike. sacrebleu's BLEU-4 with exponential smoothing.
    """
    bleu = BLEU(effective_order=True)
    scores = [
        bleu.sentence_score(text, [*texts[:at], *texts[at + 1 :]]).score / 100
        for at, text in enumerate(texts)
    ]
    return float(np.mean(scores))


def jackknife(
    texts: Sequence[str], figure: Callable[[Sequence[str]], float], confidence: float
) -> Interval:
    """A figure of a set of texts with its jackknife interval, cut to [0, 1].

    Efron and Tibshirani 1993, chapter 11. The bootstrap will not do: a text drawn twice is a
    likeness that it has made itself.
    """
    value, n = figure(texts), len(texts)
    left_out = np.array([figure([*texts[:at], *texts[at + 1 :]]) for at in range(n)])
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    reach = float(norm.ppf((1 + confidence) / 2) * error)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def writing_figures(
    texts: pd.DataFrame, coherence: pd.DataFrame, confidence: float, draws: int, seed: int
) -> dict[str, Interval]:
    """Topic accuracy, coherence and diversity of generated texts of one slice or several.

    `texts`: records of condition generated; `coherence`: of condition coherence; several seeds
    may stand in both, and are averaged on each prompt. Diversity is that within a seed and
    slice, averaged over them.
    Raises ValueError for fewer than three texts in a seed and slice.
    """
    on_topic, coherent = (_by_prompt(records) for records in (texts, coherence))
    bootstraps = [Bootstrap(rows["group"], draws, seed) for rows in (on_topic, coherent)]
    found = {
        "topic_accuracy": bootstraps[0].proportion(on_topic["score"], confidence),
        "coherence": bootstraps[1].mean(coherent["score"], confidence),
    }
    sets = [list(part["prediction"]) for _, part in texts.groupby(["seed", "slice"], sort=True)]
    if min(map(len, sets)) < 3:
        raise ValueError(f"{min(map(len, sets))} texts in a seed and slice: needs 3")
    for name, figure in (("distinct_2", distinct_2), ("self_bleu", self_bleu)):
        parts = [jackknife(of_set, figure, confidence) for of_set in sets]
        ends = ("value", "low", "high")
        found[name] = Interval(*(float(np.mean([getattr(p, end) for p in parts])) for end in ends))
    return found


def _by_prompt(records: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over seeds: more seeds are no more examples."""
    return records.groupby("example_id", sort=True).agg({"group": "first", "score": "mean"})
