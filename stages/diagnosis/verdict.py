"""Why a run lost what it lost: rules over figures, each with the figures that speak for it."""

from collections.abc import Callable

import numpy as np

from stages.diagnosis.evidence import BATCHES, Curve, Evidence
from stages.diagnosis.finding import APART, Finding, figure, level, percent
from stages.diagnosis.lost_rules import NOISE, format_drift, hidden, noise, unlike

NOTHING, UNKNOWN = "no significant drop", "no cause found"
GAP = 0.15
"""Over-fitting: validation loss above train loss, as a share of the validation loss."""
RISEN = 1.03
"""Validation loss at the end by its lowest, from where it has risen."""
STILL_FALLING = 0.98
"""Validation loss at the last look by that before, up to where it falls still."""
UNLEARNED = 1.2
"""The worst loss on training rows by that before the first step, from where steps were too large:
they are what it learns from."""
STEP = 0.05
"""Relative change of the median weight matrix from where a step was large."""
SPIKE, EXPLODED = 1.5, 3.0
"""The largest loss of a few batches in a row by that of the first few, from where training was
unstable: in a run with harm done, and in any (batches of several tasks differ by half without a
fault)."""
FEW_ROWS, MANY_EPOCHS = 1000, 5
UNEVEN, UNEQUAL = 0.85, 0.2
"""Evenness of labels up to where they are imbalanced, and the accuracy that the rare ones lack."""
RENAMED = 0.1
"""Accuracy that a renaming of answers gains, from where names are the fault."""


Rule = Callable[[Evidence], Finding | None]


def verdict(found: Evidence, causes: list[Finding]) -> list[Finding]:
    """A run's `findings`, and what is said where no retain task was surely lost, or one was and no
    rule says why. `found`: of any of its targets."""
    if not found.lost:
        return [*causes, Finding(NOTHING, f"no sure loss on {', '.join(found.kept)}")]
    if any(one.cause != NOISE for one in causes):
        return causes
    told = ", ".join(f"{one.task} ({level(one, one.drop, 'points')})" for one in found.lost)
    unseen = "no figure of the training or the data stands out"
    return [*causes, Finding(UNKNOWN, f"surely lost: {told}; {unseen}")]


def findings(*found: Evidence) -> list[Finding]:
    """Of a run, from the evidence of each of its targets; what holds of all is told once. Surest
    first: rules that see a fault itself before those that see what goes with it. Empty: nothing was
    surely lost, and nothing in the training stands out."""
    told = (rule(one) for rule in RULES for one in found)
    return list(dict.fromkeys(finding for finding in told if finding))


def _names(found: Evidence) -> Finding | None:
    """Answers that are right under other names: on train rows too, the head is at fault; on test
    rows only, the labels mean something else there."""
    test, train = found.renamed.get("test"), found.renamed.get("train")
    if test is None or test.low <= 0 or test.renamed - test.accuracy < RENAMED:
        return None
    told = (
        f"{percent(test.accuracy)} of {found.target} is right, and {percent(test.renamed)} where "
        f"{len(test.moved)} answers change names (chosen on other rows than those)"
    )
    if train is not None and train.renamed - train.accuracy < RENAMED:
        return Finding(
            "label definitions that shifted",
            f"{told}; of the training rows {percent(train.accuracy)} are right as they are",
        )
    return Finding("head misalignment", f"{told}; on the training rows it is the same")


def _target_shift(found: Evidence) -> Finding | None:
    there = found.shift.get("comparisons", {})
    own = there.get(found.target)
    same = there.get(f"same source, {found.target}", there.get("same source"))
    if not own or not same:
        return None
    reach = 1.645 * float(np.hypot(own["auc_error"], same["auc_error"]))
    if own["auc"] < APART or own["auc"] - same["auc"] < reach:
        return None
    return Finding(
        "distribution shift",
        f"a classifier tells the training texts of {found.target} from its test texts with an AUC "
        f"of {own['auc']:.2f}; two halves of the training texts with {same['auc']:.2f}",
    )


def _over_fitting(found: Evidence) -> Finding | None:
    unit = "loss" if found.error("over-fitting", "loss") else "bits/byte"
    gap = found.error("over-fitting", unit)
    last = [one.validation_last - one.train_last for one in found.curves]
    share = float(np.mean(last) / np.mean([one.validation_last for one in found.curves]))
    risen = all(map(_has_risen, found.curves))
    sure = gap is not None and gap.low is not None and gap.low > 0
    learned_by_heart = risen or (sure and found.epochs >= MANY_EPOCHS)
    if share < GAP or not learned_by_heart or _by_wild_steps(found):
        return None
    told = (
        f"at the last step the loss is {_mean(found, 'train_last'):.3g} on training rows and "
        f"{_mean(found, 'validation_last'):.3g} on validation, whose lowest was "
        f"{_mean(found, 'validation_best'):.3g}, after {found.epochs:.3g} epochs"
    )
    return Finding("over-fitting", told)


def _too_little_data(found: Evidence) -> Finding | None:
    if not _over_fitting(found) or found.train_rows >= FEW_ROWS or found.epochs < MANY_EPOCHS:
        return None
    return Finding(
        "too little data",
        f"{found.train_rows} training rows, each seen {found.epochs:.3g} times",
    )


def _step_size(found: Evidence) -> Finding | None:
    # Weights and losses are held against the base, whatever the steps before have done to them.
    large = found.moved["weight"] >= STEP and bool(found.lost) and not found.config.before
    wild = _is_wild(found)
    if not large and not wild and not found.nearer:
        return None
    told = (
        f"at a learning rate of {found.config.learning_rate:g} the median weight matrix moved by "
        f"{percent(found.moved['weight'])} of its size"
    )
    if found.config.before:
        told += " since the base, over all steps"
    if found.moved["cka"]:
        told += (
            f", and the last layer's states kept a likeness (CKA) of {found.moved['cka'][-1]:.2f}"
        )
    if wild:
        told += (
            f"; the loss on training rows was {_mean(found, 'train_first'):.3g} at first and "
            f"{_mean(found, 'train_worst'):.3g} at worst, that of {BATCHES} steps in a row rose to "
            f"{found.worst:.1f} times that of the first"
        )
    if found.nearer:
        gain = figure(found.nearer.better.value, found.nearer.of_text, "points")
        told += (
            f"; {found.nearer.name}, between the base and the run, answers {found.target} surely "
            f"better than the run itself, by {gain}"
        )
    return Finding("step size too large", told)


def _failed(found: Evidence) -> bool:
    """No sure gain, which says nothing of the training where names or test texts are at fault."""
    return not (found.gained or _names(found) or _target_shift(found))


def _is_wild(found: Evidence) -> bool:
    """Training went against itself."""
    harmed = bool(found.lost) or _failed(found)
    return found.worst >= (SPIKE if harmed else EXPLODED) or all(
        one.train_worst >= UNLEARNED * one.train_first for one in found.curves
    )


def _by_wild_steps(found: Evidence) -> bool:
    """Rows that were learned by heart within few epochs were so by steps that were too large."""
    return found.epochs < MANY_EPOCHS and _is_wild(found)


def _too_long(found: Evidence) -> Finding | None:
    late = [one for one in found.curves if one.best <= 0.75 * one.steps and _has_risen(one)]
    if not late or len(late) < len(found.curves) or _by_wild_steps(found):
        return None
    return Finding(
        "trained too long",
        f"validation was best at step {late[0].best} of {late[0].steps} and "
        f"{percent(_mean(found, 'validation_last') / _mean(found, 'validation_best') - 1)} worse "
        "at the end",
    )


def _under_training(found: Evidence) -> Finding | None:
    falling = [
        one
        for one in found.curves
        if one.best == one.steps and one.validation_last <= STILL_FALLING * one.validation_before
    ]
    if not _failed(found) or len(falling) < len(found.curves):
        return None
    return Finding(
        "under-training",
        f"no sure gain on {found.target}, and its validation loss still fell at the last look, "
        f"from {_mean(found, 'validation_before'):.3g} to {_mean(found, 'validation_last'):.3g}",
    )


def _imbalance(found: Evidence) -> Finding | None:
    labels = found.shift.get("labels", {}).get(found.target, {})
    rows = labels.get("rows")
    if not rows or labels["train"]["evenness"] > UNEVEN or not found.by_label:
        return None
    if found.config.draw and found.config.draw.per_label:
        return None  # as many of each were learned
    ranked = sorted(found.by_label, key=lambda one: rows[one[0]])
    half = len(ranked) // 2
    rare, common = (
        sum(n * accuracy for _, n, accuracy in part) / sum(n for _, n, _ in part)
        for part in (ranked[:half] or ranked[:1], ranked[half:])
    )
    if common - rare < UNEQUAL:
        return None
    most, least = (percent(labels["train"][end]) for end in ("commonest", "rarest"))
    return Finding(
        "class imbalance",
        f"of {found.target}'s training rows the commonest label has "
        f"{most}, the rarest {least}; of the rarer half of labels {percent(rare)} is right, of "
        f"the commoner {percent(common)}",
    )


RULES: tuple[Rule, ...] = (
    _names,
    _target_shift,
    _over_fitting,
    _too_little_data,
    _step_size,
    _too_long,
    _under_training,
    _imbalance,
    hidden,
    format_drift,
    unlike,
    noise,
)


def _has_risen(curve: Curve) -> bool:
    return curve.validation_last >= RISEN * curve.validation_best


def _mean(found: Evidence, figure: str) -> float:
    return float(np.mean([getattr(one, figure) for one in found.curves]))
