"""What a model wrote, held against the texts that are accepted: an example's score, in [0, 1]."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from stages.statistics.squad import token_f1

Score = Callable[[Sequence[str], str], float]
"""Accepted texts, one or more, and what was written."""


def exact_match(references: Sequence[str], written: str) -> float:
    """1 where it is one of them, sign by sign but for white space around it; else 0."""
    return float(written.strip() in [one.strip() for one in references])


def rouge_l(references: Sequence[str], written: str) -> float:
    """F1 of the longest common subsequence of words, the best over the references (Lin 2004,
    section 3); rouge-score's, without stemming, whose words are of a-z and 0-9 alone."""
    scores = _rouge().score_multi(references, written)
    return float(scores["rougeL"].fmeasure)


def sentence_chrf(references: Sequence[str], written: str) -> float:
    """chrF2 of 6-grams of characters (Popovic 2015, 2016), the best over the references;
    sacrebleu's."""
    return _share(CHRF().sentence_score(written, list(references)))


def sentence_bleu(references: Sequence[str], written: str) -> float:
    """BLEU-4 of the example alone (Papineni et al. 2002); sacrebleu's, smoothed exponentially, of
    the orders that the text has (`effective_order`), tokenised as in mteval-v13a."""
    return _share(BLEU(effective_order=True).sentence_score(written, list(references)))


def _share(found: Any) -> float:
    return min(1.0, float(found.score) / 100)  # of an exact copy 100.00000000000004


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # nltk behind it: seconds to import

    return RougeScorer(["rougeL"])


SCORES: dict[str, Score] = {
    "exact-match": exact_match,
    "f1": token_f1,
    "rouge-l": rouge_l,
    "chrf": sentence_chrf,
    "bleu": sentence_bleu,
}
"""By the metric of a task in params.yaml."""
