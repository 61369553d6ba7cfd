"""Results -> metrics/retention.json (few keys, for diffs) and metrics/scores.json (all)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.report.ensembles import called
from stages.report.folds import figures
from stages.report.lines import OF_RUN
from stages.report.measured import Measured, Ran
from stages.report.sequences import sequence_called, sequence_headline, sequence_told
from stages.statistics.comparison import Case
from stages.statistics.intervals import Interval
from stages.statistics.results import BaseResult, Change, RunResult, SliceChange, TaskScores

DECIMALS = 4


def headlines(measured: Measured, frontier: Mapping[str, float]) -> dict[str, Any]:
    """The case's part of retention.json: by run, by variant as <run>@<variant>, by ensemble as
    ensemble@<name>, and each method's drop on the `frontier`, where there is one."""
    found: dict[str, Any] = {
        model: headline(ran.case, result, ran.seen)
        for name, ran in measured.runs.items()
        for model, result in results(name, ran)
    }
    for name, followed in measured.sequences.items():
        found[name] |= sequence_headline(followed)
    for name, one in measured.ensembles.items():
        told = headline(one.case, one.result, one.seen)
        # A target of text has no gain here, and an empty mapping is no number.
        found[called(name)] = {key: value for key, value in told.items() if value != {}}
    return found | ({"frontier": dict(frontier)} if frontier else {})


def results(name: str, ran: Ran) -> Iterator[tuple[str, RunResult]]:
    """What became of a run and of its variants, by what they are called."""
    yield name, ran.result
    for variant, derived in ran.variants.items():
        yield f"{name}{OF_RUN}{variant}", derived.result


def headline(case: Case, run: RunResult, seen: Sequence[str]) -> dict[str, Any]:
    """gain.<target>, drop.<task>, retained_min, noise_drop: finite; the undefined is left out.

    `retained_min` is over the tasks that the run's methods have not `seen`.
    """
    kept: dict[str, Any] = {"gain": {}, "drop": {}}
    shares = []
    for task, change in run.changes.items():
        role = case.tasks[task].role
        kept["gain" if role == "target" else "drop"][task] = _rounded(change.interval.value)
        unseen = role == "retain" and task not in seen
        if unseen and isinstance(change.retained, float):
            shares.append(change.retained)
    if shares:
        kept["retained_min"] = _rounded(min(shares))
    if run.noise_drop is not None:
        kept["noise_drop"] = _rounded(run.noise_drop)
    return kept


def scores_of(measured: Measured, confidence: float) -> dict[str, Any]:
    """The case's part of scores.json: by base, run, variant of a run, and ensemble."""
    case = measured.case
    found = {
        "base": everything(case, case.base, confidence),
        **{
            model: _of_run(ran.case, result, ran.seen, confidence)
            for run, ran in measured.runs.items()
            for model, result in results(run, ran)
        },
        **{
            called(name): _of_run(one.case, one.result, one.seen, confidence)
            for name, one in measured.ensembles.items()
        },
    }
    for run, ran in measured.runs.items():
        for task, validated in ran.folds.items():
            found[run][task]["gain"]["folds"] = figures(validated)
        for model, _ in results(run, ran):
            for standing in ("earlier", "later"):
                for task in getattr(ran, standing):
                    found[model][task]["drop"]["target"] = standing
    for run, followed in measured.sequences.items():
        found[sequence_called(run)] = sequence_told(followed)
    return found


def _of_run(
    case: Case, result: RunResult, seen: Sequence[str], confidence: float
) -> dict[str, dict[str, Any]]:
    found = everything(case, result, confidence)
    for task, of_task in found.items():
        if "drop" in of_task:
            of_task["drop"]["seen"] = task in seen
    return found


def everything(
    case: Case, result: BaseResult | RunResult, confidence: float
) -> dict[str, dict[str, Any]]:
    """task -> metric -> {value, low, high, n}; and a run's change, or the base's noise."""
    found: dict[str, dict[str, Any]] = {
        task: dict(_metrics(scores)) for task, scores in result.scores.items()
    }
    if isinstance(result, BaseResult):
        for task, noise in result.noise.items():
            found[task]["noise"] = {
                "floor": _rounded(noise.floor),
                "mean": _rounded(noise.mean),
                "spread": _rounded(noise.spread),
                "flip_rate": _rounded(noise.flip_rate),
                "repeats": noise.repeats,
            }
        return found
    for task, change in result.changes.items():
        name = "gain" if case.tasks[task].role == "target" else "drop"
        found[task][name] = _change(change, confidence)
    return found


def _metrics(scores: TaskScores) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, interval in scores.metrics.items():
        yield name, {**_ends(interval), "n": scores.n}
    for name, interval in scores.noisy.items():
        yield f"under {name}", {**_ends(interval), "n": scores.n}
    if scores.writing:
        yield (
            "writing",
            {
                part: {name: _ends(interval) for name, interval in figures.items()}
                for part, figures in scores.writing.items()
            },
        )
    if scores.chance is not None:
        yield "chance", {"value": _rounded(scores.chance), "n": scores.n}


def _change(change: Change, confidence: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        **_ends(change.interval),
        "p": change.p,
        "adjusted_p": change.adjusted_p,
        "mcnemar_p": change.mcnemar,
        "n": change.n,
        "flips": _flips(change),
        "noise_floor": _rounded(change.floor),
        "real": change.is_real(confidence),
    }
    if change.seed_spread is not None:
        found["seed_spread"] = _rounded(change.seed_spread)
    if isinstance(change.retained, float):
        found["retained"] = _rounded(change.retained)
    else:
        found["retained_undefined"] = change.retained.reason
    if change.slices:
        found["slices"] = {name: _slice(part) for name, part in change.slices.items()}
    return found


def _flips(change: Change) -> dict[str, float]:
    """Shares of examples lost and won, means over seeds; nothing for text."""
    found = {}
    for name in (
        "forgetting",
        "backward_transfer",
        "adjusted_forgetting",
        "adjusted_backward_transfer",
    ):
        shares = [getattr(of_seed, name) for of_seed in change.transitions]
        if shares and None not in shares:
            found[name] = _rounded(sum(shares) / len(shares))
    return found


def _slice(part: SliceChange) -> dict[str, float | int]:
    ends = _ends(part.interval) if part.interval else {}
    return {"n": part.n, "before": _rounded(part.before), "after": _rounded(part.after), **ends}


def _ends(interval: Interval) -> dict[str, float]:
    return {
        "value": _rounded(interval.value),
        "low": _rounded(interval.low),
        "high": _rounded(interval.high),
    }


def _rounded(value: float) -> float:
    # + 0.0 turns a negative zero, which a diff would show as a change, into zero.
    return round(float(value), DECIMALS) + 0.0
