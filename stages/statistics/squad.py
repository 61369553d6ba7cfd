"""Answers as SQuAD's official script compares them (Rajpurkar et al. 2018, arXiv 1806.03822;
evaluate-v2.0.py, which says of questions with an answer what version 1.1 says)."""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.statistics.arrays import Floats

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """In lower case, without punctuation, articles and spare white space, in this order."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def token_f1(answers: Sequence[str], prediction: str) -> float:
    """The best over `answers`, none of which is no answer; so is an empty prediction."""
    return max(_f1(gold, normalised(prediction).split()) for gold in _golds(answers))


def exact(answers: Sequence[str], prediction: str) -> float:
    """1 where one of `answers` is the prediction, both normalised; else 0."""
    return float(normalised(prediction).split() in _golds(answers))


def exact_matches(records: pd.DataFrame) -> Floats:
    """[n]; `target` holds the answers as a list in JSON."""
    pairs = zip(records["target"], records["prediction"], strict=True)
    return np.array([exact(json.loads(target), str(found)) for target, found in pairs])


def _golds(answers: Sequence[str]) -> list[list[str]]:
    """Words of each that has any; those of the empty answer where none has."""
    return [words for answer in answers if (words := normalised(answer).split())] or [[]]


def _f1(gold: list[str], found: list[str]) -> float:
    if not gold or not found:
        return float(gold == found)
    same = (Counter(gold) & Counter(found)).total()
    return 2 * same / (len(gold) + len(found))
