"""What to try next: changes of a run's recipe, each for a finding, as commands."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stages.config.cases import UNSEEN
from stages.config.kinds import UNTAUGHT
from stages.config.overrides import overrides
from stages.config.runs import RunConfig
from stages.diagnosis.evidence import Evidence
from stages.diagnosis.finding import Finding

REPLAYED = 0.05
"""Share of replayed rows: 1 to 5 % already helps (Scialom et al. 2022, arXiv 2205.12393)."""
GENTLER = 4
POOL = "retain/train"


@dataclass(frozen=True)
class Advice:
    """`changes`: of keys under the run. `expected`: the effect that is hoped for, from 0 to 1."""

    changes: Mapping[str, Any]
    because: str
    expected: float

    def command(self, run: str) -> str:
        """For a shell, from the project's top folder."""
        given = " ".join(f"-S {_quoted(one)}" for one in self.settings(run))
        return f"dvc exp run {given}"

    def settings(self, run: str) -> list[str]:
        return overrides(run, self.changes)

    def told(self, run: str) -> dict[str, Any]:
        return {**asdict(self), "settings": self.settings(run), "command": self.command(run)}


def advice(found: Evidence, causes: Sequence[Finding]) -> list[Advice]:
    """Greatest effect first; nothing that the run does already, nothing twice."""
    named = {finding.cause for finding in causes}
    wanted = [*_against_loss(found, named), *_for_target(found, named)]
    kept: dict[str, Advice] = {}
    for one in sorted(wanted, key=lambda one: -one.expected):
        kept.setdefault(json.dumps(dict(one.changes), sort_keys=True), one)
    return list(kept.values())


def _against_loss(found: Evidence, named: set[str]) -> Iterator[Advice]:
    config = found.config
    if (replay := _replay(found)) and "replay" not in config.methods:
        yield Advice(
            {"pool": POOL, "methods": {**config.methods, "replay": replay}},
            f"rows of {', '.join(replay['tasks'])} among the target's keep what they ask for; "
            "these tasks then count as seen",
            0.9,
        )
    sure = "step size too large" in named
    if found.lost or sure:
        rate = config.learning_rate / GENTLER
        yield Advice(
            {"learning_rate": float(f"{rate:.2g}")},
            "smaller steps move the weights less; the target may need more of them",
            0.8 if sure else 0.4,
        )
    taught = "masked-lm" not in found.kinds  # no teacher is asked of masks that are not drawn yet
    if taught and found.lost and "lwf" not in config.methods and "lora" not in config.methods:
        settings: dict[str, float] = {"weight": 1.0}
        if found.causal:
            settings["temperature"] = 2.0
        yield Advice(
            {"methods": {**config.methods, "lwf": settings}},
            "holding its answers on the target's inputs near the base's needs no old data",
            0.5,
        )
    best = max(one.best for one in found.curves)
    # What was lost while nothing was learned, steps before have lost.
    untouched = bool(config.before) and not best
    if found.lost and "trained too long" in named and _may_end_at(config, best) and not untouched:
        yield Advice(
            {"steps": max(1, best)}, f"nothing was gained on validation after step {best}", 0.3
        )


def _may_end_at(config: RunConfig, step: int) -> bool:
    """Nothing that the run is to leave behind is of later steps."""
    return max(config.snapshots, default=0) <= step


def _replay(found: Evidence) -> dict[str, Any]:
    """The method's settings, of tasks that come a batch each at least; empty where none does."""
    config, rate = found.config, REPLAYED / (1 - REPLAYED)
    tasks = _replayable(found)[: int(rate * config.steps)]
    if not tasks:
        return {}
    wanted = rate * config.steps * config.batch_size / len(tasks)
    repeats = max(math.ceil(wanted / found.rows[task]) for task in tasks)
    settings = {"fraction": REPLAYED, "tasks": sorted(tasks)}
    return settings | ({"repeats": repeats} if repeats > 1 else {})


def _replayable(found: Evidence) -> list[str]:
    """The tasks that lost most, the first of them first, as many as leave the case its unseen
    ones."""
    left = len(found.lost) + len(found.kept) - len(found.seen_in_case) - UNSEEN
    kept: list[str] = []
    for one in found.lost:
        if one.kind in UNTAUGHT or one.task in (*found.seen, *found.later):
            continue
        if not found.rows.get(one.task):
            continue
        if one.task not in found.seen_in_case:
            if left < 1:
                continue
            left -= 1
        kept.append(one.task)
    return kept


def _for_target(found: Evidence, named: set[str]) -> Iterator[Advice]:
    config = found.config
    best = max(one.best for one in found.curves)
    if "over-fitting" in named and 0 < best < config.steps and _may_end_at(config, best):
        yield Advice({"steps": best}, f"validation was best at step {best}", 0.7)
    if "over-fitting" in named and config.weight_decay < 0.1:
        yield Advice({"weight_decay": 0.1}, "smaller weights know fewer rows by heart", 0.3)
    if "under-training" in named:
        yield Advice(
            {"steps": 2 * config.steps}, "the validation loss had not stopped falling", 0.7
        )
    if "head misalignment" in named and config.head == "random":
        yield Advice(
            {"head": "probe"}, "a head that starts from the probe starts from right names", 0.8
        )


def _quoted(text: str) -> str:
    return f"'{text}'" if any(sign in text for sign in "{}[],") else text
