"""Learning against forgetting: methods compared where they gained alike.

A method that forgets less at one learning rate may only have learned less (Biderman et al. 2024,
arXiv 2405.09673, section 4). So each method is a curve, drop over gain, through the best of its
attempts, and curves are compared over the gains that all of them reach.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.stats import norm

from stages.statistics.arrays import Floats
from stages.statistics.intervals import Bootstrap, Interval, percentile
from stages.statistics.paired import holm

GRID = 101
"""Gains at which curves are read, for the area under them."""
NEAR = 1e-12
"""To no gain, on the side of some."""


@dataclass(frozen=True)
class Attempt:
    """A model: a run, or a variant of one. `method`: what it is an attempt at.

    `gain` and `drop` [n] by task, of the test examples, seeds averaged: positive is better on a
    target, worse on a retain task. `validation`: gain and drop there, means over tasks; `by_task`:
    the drop there, None where the task has no such examples.
    """

    name: str
    method: str
    validation: tuple[float, float]
    gain: Mapping[str, Floats]
    drop: Mapping[str, Floats]
    by_task: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """An attempt: means over tasks, of `validation` and on test; and `by_task`, of validation."""

    name: str
    method: str
    validation: tuple[float, float]
    gain: Interval
    drop: Interval
    by_task: Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """A method. `drop`: at the common gain; `area`: the mean drop from no gain to that one;
    `beaten_by`: methods whose area is surely smaller."""

    method: str
    attempts: int
    points: tuple[Point, ...]
    drop: Interval
    area: Interval
    beaten_by: tuple[str, ...]


@dataclass(frozen=True)
class Prompted:
    """The untouched model with a few-shot prompt: it lost nothing. `outgained_by`: methods whose
    attempt that gained most on validation surely gained more."""

    point: Point
    outgained_by: tuple[str, ...]


@dataclass(frozen=True)
class Frontier:
    """`gain`: the largest that every curve reaches. `left_out`: methods without one, and
    targets that are not counted, and why. `attempts`: all, whether they lie on a curve or not.
    `prompted`: on no curve."""

    gain: float
    curves: tuple[Curve, ...]
    left_out: Mapping[str, str]
    attempts: tuple[Point, ...]
    prompted: Prompted | None = None


def frontier(
    attempts: Sequence[Attempt],
    groups: Mapping[str, Sequence[Hashable]],
    *,
    draws: int,
    seed: int,
    confidence: float,
    prompted: Attempt | None = None,
) -> Frontier:
    """`groups` [n] by task: of the test examples, which are resampled by them, a task apart from
    the others.

    Attempts are chosen on validation alone (`chosen`); test is then asked once. The curve of a
    method leads from the untouched base, which gained and lost nothing, through its chosen attempts
    in order of their gain, straight from one to the next. Beyond its last point there is no curve;
    a resample that falls short of the common gain keeps the drop of its last point. One method
    beats another where the area between their curves is surely above 0: by its bootstrap error,
    with Holm's adjustment over all pairs; and so is it told which methods surely gain more than the
    untouched model `prompted`.
    """
    asked = [*attempts, *([prompted] if prompted else [])]
    gained, lost = (_means(asked, side, groups, draws, seed) for side in ("gain", "drop"))
    points = [
        Point(
            one.name,
            one.method,
            one.validation,
            percentile(gained.value[at], gained.drawn[:, at], confidence),
            percentile(lost.value[at], lost.drawn[:, at], confidence),
            one.by_task,
        )
        for at, one in enumerate(asked)
    ]
    tried = points[: len(attempts)]
    own, left_out = _candidates(attempts)
    tops = {method: float(max(gained.value[at] for at in places)) for method, places in own.items()}
    left_out |= {
        method: f"its best on validation gained nothing on test ({top:+.4f})"
        for method, top in tops.items()
        if top <= 0
    }
    places = {method: at for method, at in own.items() if method not in left_out}
    shown = None
    if prompted:
        best = {
            method: max(at, key=lambda place: attempts[place].validation[0])
            for method, at in places.items()
        }
        shown = Prompted(points[-1], tuple(_outgaining(gained, best, len(attempts), confidence)))
    if not places:
        return Frontier(0.0, (), left_out, tuple(tried), shown)
    common = min(tops[method] for method in places)
    read = {method: _read(gained, lost, at, common) for method, at in places.items()}
    beaten = _beaten({method: (one.area, one.areas) for method, one in read.items()}, confidence)
    counts = {method: len(at) for method, at in _by_method(attempts).items()}
    curves = [
        Curve(
            method=method,
            attempts=counts[method],
            points=tuple(
                points[at] for at in sorted(places[method], key=lambda at: gained.value[at])
            ),
            drop=percentile(one.drop, one.drops, confidence),
            area=percentile(one.area, one.areas, confidence),
            beaten_by=tuple(beaten[method]),
        )
        for method, one in read.items()
    ]
    ranked = sorted(curves, key=lambda one: one.area.value)
    return Frontier(common, tuple(ranked), left_out, tuple(tried), shown)


def chosen(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those of one method that gained on validation, where no other attempt gained as much and lost
    less."""
    ranked = sorted(attempts, key=lambda one: (-one.validation[0], one.validation[1], one.name))
    kept: list[Attempt] = []
    for attempt in ranked:
        gain, drop = attempt.validation
        if gain > 0 and (not kept or drop < kept[-1].validation[1]):
            kept.append(attempt)
    return kept


@dataclass(frozen=True)
class _Means:
    """value [attempts], drawn [draws, attempts]."""

    value: Floats
    drawn: Floats


@dataclass(frozen=True)
class _Read:
    """A curve at the common gain and up to it, and in each draw."""

    drop: float
    drops: Floats
    area: float
    areas: Floats


def _by_method(attempts: Sequence[Attempt]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for at, attempt in enumerate(attempts):
        places.setdefault(attempt.method, []).append(at)
    return places


def _candidates(attempts: Sequence[Attempt]) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Places of the chosen attempts, by method; and the methods that have none."""
    kept, left_out = {}, {}
    for method, places in _by_method(attempts).items():
        names = {one.name for one in chosen([attempts[at] for at in places])}
        if names:
            kept[method] = [at for at in places if attempts[at].name in names]
        else:
            left_out[method] = f"no gain on validation in {len(places)} attempts"
    return kept, left_out


def _means(
    attempts: Sequence[Attempt],
    side: str,
    groups: Mapping[str, Sequence[Hashable]],
    draws: int,
    seed: int,
) -> _Means:
    """Over tasks, which count alike."""
    if not attempts:
        return _Means(np.zeros(0), np.zeros((draws, 0)))
    values, drawn = [], []
    for task in getattr(attempts[0], side):
        table = np.stack([getattr(attempt, side)[task] for attempt in attempts])
        # A stream a task: the same draws would tie together what has nothing in common.
        stream = seed + sorted(groups).index(task)
        values.append(table.mean(axis=1))
        drawn.append(Bootstrap(groups[task], draws, stream).resampled(table))
    return _Means(np.mean(values, axis=0), np.mean(drawn, axis=0))


def _read(gained: _Means, lost: _Means, places: Sequence[int], common: float) -> _Read:
    value = _curves(gained.value[None, places], lost.value[None, places], common)[0]
    drawn = _curves(gained.drawn[:, places], lost.drawn[:, places], common)
    return _Read(float(value[-1]), drawn[:, -1], float(value.mean()), drawn.mean(axis=1))


def _curves(gains: Floats, drops: Floats, common: float) -> Floats:
    """Points [curves, points] and the base -> drops [curves, GRID] at gains from 0 to `common`.

    A curve none of whose points gained keeps the drop of the one that came nearest: it is no model
    that was left as it was.
    """
    most = gains.max(axis=1, keepdims=True)
    gains = np.where((most <= 0) & (gains == most), NEAR, gains)
    base = np.zeros((len(gains), 1))
    gains, drops = np.hstack([base, gains]), np.hstack([base, drops])
    order = np.argsort(gains, axis=1, kind="stable")
    gains, drops = (np.take_along_axis(one, order, axis=1)[..., None] for one in (gains, drops))
    at = np.linspace(0, common, GRID)[None]
    found = np.broadcast_to(drops[:, 0], (len(gains), GRID))
    for left in range(gains.shape[1] - 1):
        width = gains[:, left + 1] - gains[:, left]
        way = np.clip((at - gains[:, left]) / np.where(width > 0, width, 1.0), 0, 1)
        way = np.where(width > 0, way, 1.0)
        between = drops[:, left] + way * (drops[:, left + 1] - drops[:, left])
        found = np.where(at >= gains[:, left], between, found)
    return found


def _outgaining(
    gained: _Means, best: Mapping[str, int], prompted: int, confidence: float
) -> list[str]:
    """Methods whose `best` attempt surely gains more than the one at `prompted`."""
    more = {at: gained.value[at] - gained.value[prompted] for at in best.values()}
    p = {
        method: _p(more[at], gained.drawn[:, at] - gained.drawn[:, prompted])
        for method, at in best.items()
    }
    adjusted = holm(p)
    return [
        method for method, at in best.items() if more[at] > 0 and adjusted[method] < 1 - confidence
    ]


def _p(difference: float, drawn: Floats) -> float:
    """Two-sided, by the bootstrap's error; 1 where nothing varies."""
    error = float(drawn.std(ddof=1))
    return 2 * float(norm.sf(abs(difference) / error)) if error else 1.0


def _beaten(areas: Mapping[str, tuple[float, Floats]], confidence: float) -> dict[str, list[str]]:
    differences: dict[tuple[str, str], float] = {}
    p: dict[tuple[str, str], float] = {}
    for one, other in combinations(areas, 2):
        difference = areas[one][0] - areas[other][0]
        differences[one, other] = difference
        p[one, other] = _p(difference, areas[one][1] - areas[other][1])
    adjusted = holm(p)
    beaten: dict[str, list[str]] = {method: [] for method in areas}
    for (one, other), difference in differences.items():
        if adjusted[one, other] < 1 - confidence:
            worse, better = (one, other) if difference > 0 else (other, one)
            beaten[worse].append(better)
    return beaten
