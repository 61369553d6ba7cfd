"""The chatterbot corpus: questions of general knowledge, and their short answers."""

import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import pandas as pd
import yaml

from stages.sources.pinned import Source
from stages.tasks.bundled import opened, sound
from stages.tasks.choices import COLUMNS, choose, gives_away
from stages.tasks.splitting import normalise

FOLDER = "chatterbot_corpus/data/english/"
ALL = "trivia"

FACTS = {
    "history": ["who invented the lightbulb", "who invented the steam engine"],
    "literature": ["who wrote vineland", "who wrote The Idiot", "who wrote frankenstein"],
    "movies": ["who is spider man"],
    "politics": ["what is greenpeace", "who was the first impeached president"],
    "science": ["what disease does a carcinogen cause", "what is cytology"],
}
"""The questions of the other files whose first answer is a fact: the rest is small talk, jokes,
and answers that begin by repeating the question."""

LEFT_OUT = {
    # The answer is not so:
    "In what year were the first Air Jordan sneakers released?",
    "What is often seen as the smallest unit of memory?",
    "What's the hardest rock?",
    "Who invented scissors?",
    # The answer can be told from its form:
    "How many of Snow White's seven dwarfs have names ending in the letter Y?",
    "Samuel Tilden, Grover Cleveland, Al Gore and Hillary Clinton share what distinction among "
    "U.S. presidential candidates?",
    "What is the most common letter in the English alphabet?",
    # No question:
    "What is the Twitter bird's official?",
}

# kind: what its questions say. The first that fits.
KINDS = {
    "number": r"\bhow many\b|\bnumber\b|\blevel of\b",
    "year": r"\bwhat year\b|^when\b",
    "person": r"^who\b|\bwho was\b|celebrity|\bauthor|artist|singer|\bactor\b(?! oscar)|actress"
    r"|astronomer|president\b|\bleader|rapper|designer|pop star|poet|first name|young girl"
    r"|superstar|character",
    "country": r"\bcountry|\bcountries",
    "city": r"\bcity\b",
    "state": r"\bstates?\b",
    "region": r"\bcontinent\b|\bocean\b|\bsea\b|\bgalaxy\b|\bisland\b|\bplanet",
    "place": r"^where\b|\bmuseum\b|\bbuilding\b",
    "colour": r"\bcolors?\b",
    "work": r"\bfilm|\bmovie\b|\bsong\b|\bbook\b|\bplays\b|\btv show\b|\bcomedy\b|\bvideo\b",
    "animal": r"animal|mammal|\bdog\b|\bdeer\b|\blizard\b|creature|species|\bbird\b|insect",
    "food": r"fruit|food|candy|nuts|beans|juice|dish|ingredient|beer|plums|sake|spice|tuna",
    "body": r"\bbone|\bblood|\bvitamin|\bartery|\bnails\b",
}
COARSE = {
    **dict.fromkeys(("number", "year"), "number"),
    **dict.fromkeys(("country", "state", "city", "region", "place"), "place"),
    "person": "person",
}
"""Kinds that may stand in for each other; all others are things."""

NUMERALS = {"zero": "0", "three": "3", "five": "5", "six": "6", "seven": "7", "twenty-four": "24"}
"""Some answers are written out: `Five` cannot stand beside `5`."""

STRAIGHT = str.maketrans(dict.fromkeys("\u2018\u2019", "'") | dict.fromkeys("\u201c\u201d", '"'))
"""The corpus has curly quotation marks here and there."""


class Fact(NamedTuple):
    question: str
    answer: str
    file: str
    kind: str


def read_trivia(source: Source, seed: int) -> pd.DataFrame:
    """One row a question, the wrong answers from others of the same file and kind of answer
    where there are enough; slice: the file; group: the answer.

    All of the trivia file is read, but for what has no question mark or a wrong answer; of
    the other files, the facts listed above.
    """
    facts = [fact for file in (ALL, *FACTS) for fact in _facts(source, file)]
    by_answer: dict[str, list[Fact]] = {}
    for fact in facts:
        by_answer.setdefault(fact.answer, []).append(fact)
    rows = []
    for fact in facts:
        context = f"Question: {fact.question}\nAnswer:"
        distance = partial(_distance, fact, by_answer)
        choices, answer = choose(seed, context, fact.answer, by_answer, distance=distance)
        rows.append((context, choices, answer, normalise(fact.answer), fact.file))
    return pd.DataFrame(rows, columns=COLUMNS)


def _distance(
    fact: Fact, by_answer: Mapping[str, list[Fact]], answer: str
) -> tuple[bool, bool, bool, int]:
    """How unlike the right answer another is: in kind, in the file it is from, in length."""
    return min(
        (
            COARSE.get(fact.kind) != COARSE.get(other.kind),
            fact.kind != other.kind,
            fact.file != other.file,
            abs(len(fact.answer.split()) - len(answer.split())),
        )
        for other in by_answer[answer]
    )


def _facts(source: Source, file: str) -> list[Fact]:
    found: dict[str, Fact] = {}
    with opened(source, f"{FOLDER}{file}.yml") as content:
        for talk in yaml.safe_load(content)["conversations"]:
            # One entry of the corpus is a bare string, by a slip of YAML.
            if not isinstance(talk, list) or len(talk) < 2:
                continue
            question, answer = map(_text, talk[:2])
            if file == ALL:
                wanted = question.endswith("?") and question not in LEFT_OUT
            else:
                wanted = question in FACTS[file]
            if wanted and question not in found:
                found[question] = _fact(question, answer, file)
    return [fact for fact in found.values() if not gives_away(fact.question, fact.answer)]


def _text(value: object) -> str:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if any(isinstance(one, dict | list) for one in inner):
        raise ValueError("lists of lists")  # whose aliases may unfold to billions of texts
    return sound(" ".join(str(value).translate(STRAIGHT).split()))


def _fact(question: str, answer: str, file: str) -> Fact:
    question = question[0].upper() + question[1:].removesuffix("?") + "?"
    kinds = (kind for kind, says in KINDS.items() if re.search(says, question.lower()))
    kind = next(kinds, "thing")
    answer = NUMERALS.get(answer.lower(), answer.removesuffix("."))
    if kind == "person" and answer.islower():
        answer = answer.title()
    return Fact(question, answer[0].upper() + answer[1:], file, kind)
