"""Curves of methods, by hand; and in simulations, whose truth is known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from stages.report.frontier import table
from stages.statistics import attempts
from stages.statistics.attempts import Weighed, groups_of, prompted_base
from stages.statistics.frontier import Attempt, Curve, Frontier, chosen, frontier
from stages.statistics.measures import ACCURACY, BITS_PER_BYTE
from stages.statistics.results import About

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


# From records


def told(
    task: str, split: str, *seeds: Sequence[float], condition: str = "clean", column: str = "score"
) -> pd.DataFrame:
    """Of each seed one figure an example, whose groups go the other way; last first."""
    rows = [
        {"task": task, "split": split, "condition": condition, "seed": seed, column: figure}
        | {"example_id": f"e{at}", "group": f"g{len(figures) - at}", "bytes": 4}
        for seed, figures in enumerate(seeds)
        for at, figure in enumerate(figures)
    ]
    return pd.DataFrame(rows[::-1])


BASE = pd.concat(
    [
        told(TARGET, "test", [1, 0, 0, 0]),
        told(TARGET, "validation", [0, 0]),
        told(KEPT, "test", [1, 1, 0]),
        told(OTHER, "test", [1, 1]),
        told(OTHER, "validation", [1, 1]),
        # No attempt is asked these.
        told(TARGET, "train", [1, 1]),
        told(TARGET, "test", [0, 0, 0, 0], condition="typos-0.1"),
    ]
)
WEIGHED = Weighed({TARGET: ACCURACY}, {KEPT: ACCURACY, OTHER: ACCURACY})


def test_an_attempt_by_hand() -> None:
    """Seeds averaged; a task without validation examples has no say in the choice."""
    run = pd.concat(
        [
            told(TARGET, "test", [1, 1, 0, 0], [1, 1, 1, 0]),
            told(TARGET, "validation", [1, 0], [1, 1]),
            told(KEPT, "test", [1, 1, 1], [1, 1, 0]),
            told(OTHER, "test", [1, 0], [1, 0]),
            told(OTHER, "validation", [0, 1], [1, 1]),
        ]
    )
    found = attempts.attempt("run", "full", BASE, run, WEIGHED)
    assert (found.name, found.method, found.validation) == ("run", "full", (0.75, 0.25))
    assert {task: list(one) for task, one in found.gain.items()} == {TARGET: [0, 1, 0.5, 0]}
    assert {task: list(one) for task, one in found.drop.items()} == {
        KEPT: [0, 0, -0.5],
        OTHER: [0, 1],
    }
    assert found.by_task == {KEPT: None, OTHER: 0.25}
    assert groups_of(BASE, WEIGHED) == {
        TARGET: ["g4", "g3", "g2", "g1"],
        KEPT: ["g3", "g2", "g1"],
        OTHER: ["g2", "g1"],
    }


def test_an_attempt_gains_where_its_text_takes_fewer_bits() -> None:
    def texts(*nats: float) -> pd.DataFrame:
        splits = (told(TARGET, split, nats, column="nll") for split in ("validation", "test"))
        kept = (told(OTHER, split, [1, 0]) for split in ("validation", "test"))
        return pd.concat([*splits, *kept])

    weighed = Weighed({TARGET: BITS_PER_BYTE}, {OTHER: ACCURACY})
    found = attempts.attempt("run", "full", texts(8, 6), texts(4, 6), weighed)
    bits = 1 / np.log(2) / 4
    assert found.gain[TARGET] == pytest.approx([4 * bits, 0])
    assert found.validation == pytest.approx((2 * bits, 0))


def test_the_prompted_base_gains_and_loses_nothing() -> None:
    asked = [("test", [1, 1, 0, 1]), ("validation", [1, 0])]
    shown = pd.concat([told(TARGET, *one, condition="shots-4") for one in asked])
    found = prompted_base(BASE, shown, WEIGHED)
    assert found
    assert (found.name, found.method, found.validation) == ("base@shots-4", "prompt", (0.5, 0.0))
    assert list(found.gain[TARGET]) == [0, 1, 0, 1]
    assert {task: list(one) for task, one in found.drop.items()} == {KEPT: [0] * 3, OTHER: [0] * 2}
    assert prompted_base(BASE, shown[:0], WEIGHED) is None


def test_what_a_frontier_counts() -> None:
    """Text is in another unit: beside answers it does not count, alone it does."""
    text, choice = ("language-modelling", "multiple-choice")
    kinds = {
        "goal": (choice, "target"),
        "news": (text, "target"),
        "kept": (choice, "retain"),
        "replayed": (choice, "retain"),
        "code": (text, "retain"),
    }
    tasks = {task: About(kind, role, (), 0) for task, (kind, role) in kinds.items()}
    found = Weighed.of(tasks, ["replayed"])
    assert (set(found.targets), set(found.unseen), found.apart) == ({"goal"}, {"kept"}, ("news",))
    del tasks["goal"]
    found = Weighed.of(tasks, ["replayed"])
    assert (set(found.targets), found.apart) == ({"news"}, ())


def test_why_there_is_no_frontier() -> None:
    assert WEIGHED.lacking(BASE) is None
    assert Weighed({TARGET: ACCURACY}, {}).lacking(BASE) == (
        "no accuracy-like retain task is unseen by all runs"
    )
    by = "has validation examples, which attempts are chosen by"
    assert Weighed({KEPT: ACCURACY}, {OTHER: ACCURACY}).lacking(BASE) == f"no target {by}"
    assert Weighed({TARGET: ACCURACY}, {KEPT: ACCURACY}).lacking(BASE) == (
        f"no unseen retain task {by}"
    )
