"""What a run learns from: whose rows come in a step, how many, and how long they are."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.config.runs import RunConfig
from stages.config.sequences import learned
from stages.planning.case import Case
from stages.planning.texts import Texts, mean_longest


@dataclass(frozen=True)
class Stream:
    """As stages/training/stream.py draws it. `rate`: rows a step, in the mean. `chunk`: rows that
    come together, at some steps only. `whole`: a step's rows are taken at once, in one turn."""

    texts: Texts
    rate: float
    chunk: int = 1
    whole: bool = False

    @property
    def length(self) -> float:
        """Tokens of a row, padding included."""
        return mean_longest(self.texts.learned, max(self.chunk, round(self.rate)))

    @property
    def judged(self) -> float:
        """Tokens of a row that its loss is taken on."""
        return min(self.texts.judged, self.length)

    def most(self, turns: int) -> int:
        """Rows in one of the turns of a step, at most."""
        rows = self.chunk * math.ceil(round(self.rate / self.chunk, 9))
        return rows if self.whole else math.ceil(rows / turns)


def added(method: Mapping[str, Any]) -> float:
    """Rows that a method adds a row of the targets; `fraction` is their share of all rows."""
    fraction = float(method["fraction"])
    return fraction / (1 - fraction)


def streams(case: Case, config: RunConfig) -> Iterator[Stream]:
    methods, targets = config.methods, learned(config, case.config)
    for target in targets:
        texts, rate = case.texts[target], config.batch_size / len(targets)
        yield Stream(texts, rate, whole=_in_batch(texts) or "supervised-contrastive" in methods)
        if told := methods.get("self-training"):
            yield Stream(texts, added(told) * rate)
    if told := methods.get("replay"):
        for task in told["tasks"]:
            texts, rate = case.texts[task], added(told) * config.batch_size / len(told["tasks"])
            whole = _in_batch(texts)
            yield Stream(texts, rate, config.batch_size if whole else 1, whole)
    if told := methods.get("self-replay"):
        yield Stream(_own(told["length"]), added(told) * config.batch_size)


def _in_batch(texts: Texts) -> bool:
    """Whether each row is told from those beside it."""
    return texts.kind == "retrieval"


def _own(length: int) -> Texts:
    """What a model writes after its BOS, at most."""
    row = (1 + length,)
    return Texts("language-modelling", {}, row, row, length, {}, 0, counted=False)


def step_tokens(case: Case, config: RunConfig) -> float:
    """Tokens of one step, padding included, in the mean over steps."""
    return sum(one.rate * one.length for one in streams(case, config))
