"""Rules of the verdict over what was lost, whatever the training was like."""

from stages.diagnosis.evidence import Evidence
from stages.diagnosis.finding import APART, Finding, level, percent
from stages.statistics.lost import TAUGHT

NOISE = "noise"
HIDDEN = 0.5
"""Share of a loss that comes back with ten examples, from where it was hidden, not gone."""


def hidden(found: Evidence) -> Finding | None:
    back = found.moved["relearned"]
    told = [
        f"{percent(min(one['share'], 1))} of the loss on {lost.task} came back with ten examples ("
        + ", ".join(f"{level(lost, one[at])} {at}" for at in ("before", "after", "relearned"))
        + ")"
        for lost in found.lost
        if (one := back.get(lost.task)) and HIDDEN <= one["share"] < TAUGHT
    ]
    return Finding("hidden rather than lost", "; ".join(told)) if told else None


def format_drift(found: Evidence) -> Finding | None:
    broken = [one for one in found.lost if one.kind == "instruction-following"]
    others = [one for one in found.lost if one.kind != "instruction-following"]
    if not broken or others or not found.kept:
        return None
    return Finding(
        "format drift",
        f"{', '.join(f'{one.task} lost {percent(one.drop)} of its answers' for one in broken)}, "
        f"and nothing else was lost: {', '.join(found.kept)}",
    )


def unlike(found: Evidence) -> Finding | None:
    """The usual one: what was lost is unlike what was learned, and nothing kept it."""
    there = found.shift.get("comparisons", {})
    same = there.get("same source")
    told = [
        f"{one.task} (AUC {there[one.task]['auc']:.2f}, "
        f"{percent(there[one.task]['unknown_words'])} of its words unknown)"
        for one in found.lost
        if one.task in there and one.task not in found.seen and there[one.task]["auc"] > APART
    ]
    if not told or not same:
        return None
    texts = "the training texts"
    if found.config.learns is not None:
        texts += " of all targets of the case"
    return Finding(
        "learned from other data only",
        f"{texts} are unlike those of {', '.join(told)}, of which it saw none; two halves of them: "
        f"AUC {same['auc']:.2f}",
    )


def noise(found: Evidence) -> Finding | None:
    """A drop that chance does not explain, and asking the base twice does."""
    told = [f"{one.task} fell by {level(one, one.drop, 'points')}" for one in found.within_noise]
    if not told:
        return None
    return Finding(NOISE, f"{', '.join(told)}: no more than the base moves when it is asked again")
