"""The learning-forgetting frontier of a case: its figures for files, and its table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from stages.config.runs import RunConfig
from stages.report.lines import OF_RUN
from stages.report.measured import Measured
from stages.report.units import BITS, CORRECT, Unit
from stages.statistics.attempts import Weighed, attempt, groups_of, prompted_base
from stages.statistics.frontier import Attempt, Frontier, Point, Prompted, frontier
from stages.statistics.paired import Undefined
from stages.statistics.results import Settings

DECIMALS = 4
PLAIN, PROBED = "full", "lp-ft"
SAME_METHOD = ("step",)
"""Kinds of variant that are the same method, stopped elsewhere."""


def frontier_of(
    measured: Measured, runs: Mapping[str, RunConfig], settings: Settings
) -> Frontier | Undefined:
    weighed = Weighed.of(measured.case.tasks, measured.seen)
    if reason := weighed.lacking(measured.base.rows):
        return Undefined(reason)
    attempts = list(_attempts(measured, runs, weighed))
    told = {key: getattr(settings, key) for key in DRAWN_WITH}
    return frontier_among(attempts, measured.base.rows, measured.prompted, weighed, told)


DRAWN_WITH = ("confidence", "resamples", "seed")
"""The settings that intervals depend on."""


def frontier_among(
    attempts: Sequence[Attempt],
    base: pd.DataFrame,
    prompted: pd.DataFrame,
    weighed: Weighed,
    settings: Mapping[str, Any],
) -> Frontier:
    """`base`, `prompted`: records of the base without and with a few-shot prompt; `settings`: see
    DRAWN_WITH."""
    found = frontier(
        attempts,
        groups_of(base, weighed),
        draws=settings["resamples"],
        seed=settings["seed"],
        confidence=settings["confidence"],
        prompted=prompted_base(base, prompted, weighed),
    )
    apart = dict.fromkeys(
        weighed.apart, "a target in bits per byte; the gain is that of the others"
    )
    return replace(found, left_out={**found.left_out, **apart})


def _attempts(
    measured: Measured, runs: Mapping[str, RunConfig], weighed: Weighed
) -> Iterator[Attempt]:
    base = measured.base.rows
    for run, ran in measured.runs.items():
        if ran.later:
            continue  # it cannot have gained on them: its sequence's last run is the attempt
        method = method_of(runs[run])
        yield attempt(run, method, base, ran.records.rows, weighed)
        for name, variant in ran.variants.items():
            of_variant = method_of_variant(method, variant.kind)
            yield attempt(f"{run}{OF_RUN}{name}", of_variant, base, variant.rows, weighed)


def method_of_variant(method: str, kind: str) -> str:
    return method if kind in SAME_METHOD else f"{method}+{kind}"


def method_of(config: RunConfig) -> str:
    """What a run is an attempt at: its methods by name, whatever their settings."""
    plain = PROBED if config.head == "probe" else PLAIN
    return "+".join(sorted(config.methods)) or plain


def drops(found: Frontier | Undefined) -> dict[str, float]:
    """For retention.json: each method's drop at the common gain; nothing without a curve."""
    if isinstance(found, Undefined):
        return {}
    return {curve.method: round(curve.drop.value, DECIMALS) + 0.0 for curve in found.curves}


def told(found: Frontier | Undefined) -> dict[str, Any]:
    """For frontier.json: everything."""
    if isinstance(found, Undefined):
        return {"undefined": found.reason}
    figures: dict[str, Any] = _rounded(asdict(found))
    if found.prompted is None:
        del figures["prompted"]
    return figures


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


def plot_rows(name: str, found: Frontier | Undefined) -> list[dict[str, Any]]:
    """A row a point, with the base at the beginning of each curve; and the base with a prompt."""
    if isinstance(found, Undefined):
        return []
    nothing = dict.fromkeys((f"{side}{end}" for side in ("gain", "drop") for end in ENDS), 0.0)
    rows = []
    for curve in found.curves:
        rows.append({"case": name, "method": curve.method, "model": "base", **nothing})
        rows += [_plotted(name, point) for point in curve.points]
    if found.prompted:
        rows.append(_plotted(name, found.prompted.point))
    return rows


def _plotted(name: str, point: Point) -> dict[str, Any]:
    ends = {
        f"{side}{end}": round(getattr(getattr(point, side), key), DECIMALS) + 0.0
        for side in ("gain", "drop")
        for end, key in ENDS.items()
    }
    return {"case": name, "method": point.method, "model": point.name, **ends}


ENDS = {"": "value", "_low": "low", "_high": "high"}
"""How the columns of a plot end, by the ends of an interval."""


@dataclass(frozen=True)
class Table:
    """`gain`: the common one, in its unit. `rows`: text of cells, least lost first; `left_out`:
    sentences. `held`: a sentence, empty where every method surely gained. `prompted`: a sentence,
    empty where the base was asked without a prompt only."""

    gain: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    held: str
    prompted: str


def table(found: Frontier | Undefined, of_text: bool) -> Table | None:
    """None where nothing is to be compared: fewer than two curves. `of_text`: the targets are."""
    if isinstance(found, Undefined) or len(found.curves) < 2:
        return None
    unit = BITS if of_text else CORRECT
    head = (
        "method",
        "attempts",
        f"best attempts: gain, {unit.step}; mean drop of unseen tasks, points",
        f"drop at a gain of {unit.change(found.gain)}, points",
        "mean drop up to it, points",
        "surely beaten by",
    )
    rows = tuple(
        (
            curve.method,
            str(curve.attempts),
            "; ".join(
                f"{point.name}: {unit.change(point.gain.value)}, {CORRECT.change(point.drop.value)}"
                for point in curve.points
            ),
            CORRECT.change_between(curve.drop),
            CORRECT.change_between(curve.area),
            ", ".join(curve.beaten_by) or "none",
        )
        for curve in found.curves
    )
    left_out = tuple(f"{method}: {reason}" for method, reason in found.left_out.items())
    shown = _shown(found.prompted, unit) if found.prompted else ""
    gain = f"{unit.change(found.gain)} {unit.step}"
    return Table(gain, head, rows, left_out, _held(found, unit), shown)


def _held(found: Frontier, unit: Unit) -> str:
    """What to think of the common gain where the method that gained least may have gained nothing:
    near no gain all curves are near the base."""
    furthest = {
        curve.method: max((point.gain for point in curve.points), key=lambda gain: gain.value)
        for curve in found.curves
    }
    least = min(furthest, key=lambda method: furthest[method].value)
    if furthest[least].low > 0:
        return ""
    return (
        f"{least} holds all others to its own gain, {unit.change_between(furthest[least])} "
        f"{unit.step}, which is not sure to be one: so near to the base they differ little. "
        "Without its runs they are compared at a larger gain"
    )


def _shown(prompted: Prompted, unit: Unit) -> str:
    better = ", ".join(prompted.outgained_by) or "no method"
    return (
        f"base with a few-shot prompt ({prompted.point.name}) gains "
        f"{unit.change_between(prompted.point.gain)} {unit.step} and loses nothing. Of each "
        f"method, the attempt that gained most on validation surely gains more: {better}"
    )
