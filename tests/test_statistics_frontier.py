"""Curves of methods, by hand; and in simulations, whose truth is known."""

from collections.abc import Sequence

import numpy as np
import pytest

from stages.report.frontier import table
from stages.statistics.frontier import Attempt, Curve, Frontier, chosen, frontier

TARGET, KEPT, OTHER = "target", "kept", "other"


def attempt(
    name: str, method: str, gain: float, drops: Sequence[float], validation: tuple[float, float]
) -> Attempt:
    """Ten examples a task, all alike: nothing is left to chance."""
    return Attempt(
        name,
        method,
        validation,
        {TARGET: np.full(10, gain)},
        {task: np.full(10, drop) for task, drop in zip((KEPT, OTHER), drops, strict=True)},
    )


def drawn(attempts: Sequence[Attempt], n: int = 10, draws: int = 50) -> Frontier:
    groups = {task: range(n) for task in (TARGET, KEPT, OTHER)}
    return frontier(attempts, groups, draws=draws, seed=0, confidence=0.95)


def curve(found: Frontier, method: str) -> Curve:
    return next(one for one in found.curves if one.method == method)


def test_curves_by_hand() -> None:
    found = drawn(
        [
            attempt("weak", "full", 0.02, (0.0, 0.02), (0.02, 0.01)),
            attempt("strong", "full", 0.06, (0.1, 0.2), (0.07, 0.16)),
            attempt("replayed", "replay", 0.04, (0.01, 0.03), (0.05, 0.0)),
        ]
    )
    assert found.gain == pytest.approx(0.04)
    full, replay = curve(found, "full"), curve(found, "replay")
    assert [point.name for point in full.points] == ["weak", "strong"]
    # The drop is the mean of both tasks: 0.01 at 0.02 and 0.15 at 0.06, so halfway 0.08.
    assert full.drop.value == pytest.approx(0.08)
    assert replay.drop.value == pytest.approx(0.02)
    # From 0 to 0.02 half of 0.01 on average, from there half of 0.01 + 0.08.
    assert full.area.value == pytest.approx((0.005 + 0.045) / 2, rel=0.01)
    assert replay.area.value == pytest.approx(0.01)
    assert [one.method for one in found.curves] == ["replay", "full"]
    assert (full.attempts, replay.attempts) == (2, 1)


def test_a_resample_without_a_gain_is_no_untouched_model() -> None:
    """Gains of +1 and -1 by example, a third of the resamples gain nothing: the drop stays."""
    tried = attempt("wild", "full", 0.0, (0.3, 0.3), (0.1, 0.3))
    tried.gain[TARGET][:] = [1.0] * 6 + [-1.0] * 4
    steady = attempt("steady", "replay", 0.2, (0.0, 0.0), (0.1, 0.0))
    found = drawn([tried, steady], draws=400)
    drop = curve(found, "full").drop
    assert (drop.value, drop.high) == pytest.approx((0.3, 0.3))
    # A resample that gains 0.8 reads a quarter of it at 0.2; none reads nothing.
    assert 0.05 < drop.low < 0.3


def test_a_method_without_a_sure_gain_is_told_to_hold_the_others() -> None:
    unsure = attempt("unsure", "full", 0.0, (0.3, 0.3), (0.1, 0.3))
    unsure.gain[TARGET][:] = [1.0] * 6 + [-1.0] * 4
    others = [
        attempt("steady", "replay", 0.4, (0.0, 0.0), (0.1, 0.0)),
        attempt("sure", "lora", 0.3, (0.1, 0.1), (0.1, 0.1)),
    ]
    held = table(drawn([unsure, *others], draws=400), of_text=False)
    assert held
    assert held.held.startswith("full holds all others to its own gain, +20.0 [-")
    sure = table(drawn(others), of_text=False)
    assert sure
    assert (sure.gain, sure.held) == ("+30.0 points", "")


def test_the_best_on_validation_are_chosen() -> None:
    tried = [
        attempt("a", "full", 0.0, (0, 0), (0.01, 0.02)),
        attempt("b", "full", 0.0, (0, 0), (0.02, 0.05)),
        attempt("c", "full", 0.0, (0, 0), (0.02, 0.04)),
        attempt("d", "full", 0.0, (0, 0), (0.015, 0.04)),
        attempt("e", "full", 0.0, (0, 0), (-0.01, -0.1)),
    ]
    assert [one.name for one in chosen(tried)] == ["c", "a"]


def test_test_has_no_say_in_the_choice() -> None:
    """What is best there, and is not on validation, stands on no curve."""
    found = drawn(
        [
            attempt("lucky", "full", 0.09, (0.0, 0.0), (0.01, 0.03)),
            attempt("picked", "full", 0.03, (0.1, 0.1), (0.02, 0.02)),
        ]
    )
    (only,) = found.curves
    assert [point.name for point in only.points] == ["picked"]
    assert only.attempts == 2
    assert found.gain == pytest.approx(0.03)


def test_methods_without_a_gain_are_left_out_with_the_reason() -> None:
    found = drawn(
        [
            attempt("good", "full", 0.05, (0.1, 0.1), (0.05, 0.1)),
            attempt("idle", "frozen", 0.01, (0.0, 0.0), (0.0, 0.0)),
            attempt("unlucky", "lwf", -0.01, (0.0, 0.0), (0.01, 0.0)),
        ]
    )
    assert [one.method for one in found.curves] == ["full"]
    assert "on validation in 1 attempts" in found.left_out["frozen"]
    assert "gained nothing on test (-0.0100)" in found.left_out["lwf"]
    assert not drawn([attempt("idle", "frozen", 0.01, (0, 0), (0.0, 0.0))]).curves


LEVELS, N = (0.03, 0.06, 0.09), 200
"""Gains of attempts; examples of each task."""


def simulated(
    generator: np.random.Generator, methods: Sequence[str], costs: dict[str, float]
) -> list[Attempt]:
    """Answers that change by chance, around a drop of `costs` times the gain. Nine attempts, each
    level three times; those at one example err alike, as models of one base do."""
    common = {task: generator.normal(0, 0.15, N) for task in (TARGET, KEPT, OTHER)}
    tried = []
    for at, method in enumerate(methods):
        level = LEVELS[at % len(LEVELS)]
        means = {TARGET: level, KEPT: costs[method] * level, OTHER: costs[method] * level}
        seen = {task: means[task] + common[task] + generator.normal(0, 0.15, N) for task in means}
        noise = generator.normal(0, 0.02, 2)
        validation = (level + noise[0], costs[method] * level + noise[1])
        drop = {task: seen[task] for task in (KEPT, OTHER)}
        tried.append(Attempt(f"run-{at}", method, validation, {TARGET: seen[TARGET]}, drop))
    return tried


def test_shuffled_labels_rank_nothing() -> None:
    """Runs of one frontier, under names that mean nothing: at most one in twenty such studies may
    call a method better."""
    alarms, studies = 0, 200
    for study in range(studies):
        generator = np.random.default_rng(study)
        methods = generator.permutation(["full", "lora", "replay"] * 3).tolist()
        tried = simulated(generator, methods, dict.fromkeys(methods, 2.0))
        found = drawn(tried, N, 200)
        alarms += any(one.beaten_by for one in found.curves)
    assert alarms / studies <= 0.065


def test_a_method_that_costs_less_is_found() -> None:
    methods = ["full"] * 3 + ["lora"] * 3 + ["replay"] * 3
    costs = {"full": 3.0, "lora": 3.0, "replay": 0.5}
    hits = 0
    for study in range(40):
        found = drawn(simulated(np.random.default_rng(study), methods, costs), N, 200)
        hits += all("replay" in curve(found, method).beaten_by for method in ("full", "lora"))
        assert not curve(found, "replay").beaten_by
    assert hits >= 30


def test_the_same_question_has_the_same_answer() -> None:
    tried = simulated(np.random.default_rng(1), ["full"] * 3 + ["lora"] * 3, {"full": 2, "lora": 1})
    assert drawn(tried, N) == drawn(tried, N)
    assert drawn(tried[::-1], N).gain == drawn(tried, N).gain
