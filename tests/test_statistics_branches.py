"""A run on two branches, by hand."""

import numpy as np
import pandas as pd
import pytest

from stages.statistics.branches import shifts
from stages.statistics.gate import Limits
from stages.statistics.measures import Measure
from stages.statistics.paired import sign_flip
from stages.statistics.results import Settings

SETTINGS = Settings(
    confidence=0.95,
    resamples=500,
    seed=1,
    limits=Limits(margin=0.05, text_margin=0.02, margins={}, minimum_gain=None, confidence=0.95),
)


def rows(task: str, scores: dict[str, float], seed: int = 0, text: bool = False) -> pd.DataFrame:
    """`scores`: by example. Of text: bits."""
    n = len(scores)
    return pd.DataFrame(
        {
            "task": task,
            "split": "test",
            "condition": "clean",
            "example_id": [*scores],
            "group": [*scores],
            "seed": seed,
            "score": [np.nan] * n if text else [*scores.values()],
            "nll": np.log(2) * np.array([*scores.values()]),
            "bytes": [1] * n,
        }
    )


def examples(scores: list[int]) -> dict[str, float]:
    return {f"e{at:02}": float(score) for at, score in enumerate(scores)}


def test_by_hand() -> None:
    before = rows("a", examples([1] * 16 + [0] * 4))
    after = rows("a", examples([0] * 12 + [1] * 6 + [0] * 2))
    found = shifts(before, after, {"a": Measure("accuracy")}, {"a": 0.1}, SETTINGS)["a"]
    assert (found.n, found.alone) == (20, 0)
    assert (found.before, found.after) == (0.8, 0.3)
    assert (found.lost, found.won) == (0.6, 0.1)
    assert found.change.value == pytest.approx(-0.5)
    assert found.change.low < -0.5 < found.change.high < 0
    # 14 examples moved, 12 of them down: exact sign test, P(X <= 2 or X >= 12) of B(14, 1/2).
    assert found.adjusted_p == pytest.approx(2 * (1 + 14 + 91) / 2**14, abs=0.01)
    assert found.is_real(0.95)
    assert not shifts(before, after, {"a": Measure("accuracy")}, {"a": 0.6}, SETTINGS)["a"].is_real(
        0.95
    )


def test_only_common_examples_count_in_whatever_order() -> None:
    before = rows("a", {"x": 1, "y": 0, "z": 1})
    after = rows("a", {"z": 1, "w": 0, "x": 0})
    found = shifts(before, after, {"a": Measure("accuracy")}, {"a": 0}, SETTINGS)["a"]
    assert (found.n, found.alone) == (2, 2)
    assert (found.before, found.after, found.lost, found.won) == (1.0, 0.5, 0.5, 0.0)


def test_seeds_are_averaged_on_each_side() -> None:
    before = pd.concat([rows("a", {"x": 1, "y": 0}), rows("a", {"x": 0, "y": 0}, seed=1)])
    after = rows("a", {"x": 1, "y": 1}, seed=7)
    found = shifts(before, after, {"a": Measure("accuracy")}, {"a": 0}, SETTINGS)["a"]
    assert (found.before, found.after, found.won) == (0.25, 1.0, 0.75)


def test_fewer_bits_are_better_and_holm_counts_the_tasks() -> None:
    measures = {"a": Measure("accuracy"), "t": Measure("bits_per_byte", of_text=True)}
    scores = {"a": examples([1, 0, 1, 1, 0, 1]), "t": examples([2, 3, 2, 2, 4, 2])}
    before = pd.concat([rows("a", scores["a"]), rows("t", scores["t"], text=True)])
    lower = {name: bits - 1 for name, bits in scores["t"].items()}
    after = pd.concat([rows("a", scores["a"]), rows("t", lower, text=True)])
    found = shifts(before, after, measures, {"a": 0, "t": 0}, SETTINGS)
    assert found["t"].change.value == pytest.approx(1.0)
    assert (found["t"].lost, found["t"].won) == pytest.approx((0.0, 1.0))
    assert found["a"].change.value == 0
    alone = sign_flip(np.ones(6), [*"abcdef"], 500, 1)
    assert found["t"].adjusted_p == pytest.approx(2 * alone)


def test_hits_among_other_documents_are_not_compared() -> None:
    """The same model finds fewer among more: the common queries say nothing of it."""
    hits = {"r": Measure("hit_at_1")}
    before, after = {"x": 1.0, "y": 1.0}, {"x": 0.0, "y": 1.0}
    assert shifts(rows("r", before), rows("r", after), hits, {"r": 0}, SETTINGS)["r"].lost == 0.5
    more = rows("r", {**after, "z": 1.0})
    assert shifts(rows("r", before), more, hits, {"r": 0}, SETTINGS) == {}


def test_one_common_group_is_no_comparison() -> None:
    before = rows("a", {"x": 1, "y": 0}).assign(group="g")
    after = rows("a", {"x": 0, "y": 0}).assign(group="g")
    assert shifts(before, after, {"a": Measure("accuracy")}, {"a": 0}, SETTINGS) == {}


def test_tasks_without_common_examples_are_left_out() -> None:
    measures = {"a": Measure("accuracy")}
    assert shifts(rows("a", {"x": 1}), rows("a", {"y": 1}), measures, {"a": 0}, SETTINGS) == {}
