"""BWT, FWT, forgetting and average accuracy against a matrix worked by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages.statistics import sequence
from stages.statistics.intervals import Interval
from stages.statistics.measures import ACCURACY, BITS_PER_BYTE
from stages.statistics.paired import Undefined
from stages.statistics.sequence import MEASURES, SequenceResult, follow, in_order

#                 task 1  task 2  task 3
R = np.array(
    [
        [0.50, 0.40, 0.30],  # the untouched base
        [0.90, 0.45, 0.28],
        [0.80, 0.85, 0.36],
        [0.84, 0.70, 0.95],
    ]
)
LEARNED = np.array([1, 2, 3])
BY_HAND = {
    "average_accuracy": (0.84 + 0.70 + 0.95) / 3,
    "backward_transfer": ((0.84 - 0.90) + (0.70 - 0.85)) / 2,
    "forward_transfer": ((0.45 - 0.40) + (0.36 - 0.30)) / 2,
    # Of task 1 the best after steps 1 and 2; step 3 is the last, and the base is no step.
    "forgetting": ((0.90 - 0.84) + (0.85 - 0.70)) / 2,
}


@pytest.mark.parametrize("name", MEASURES)
def test_by_hand(name: str) -> None:
    assert float(MEASURES[name](R, LEARNED)) == pytest.approx(BY_HAND[name])
    # Leading axes are kept: draws, or seeds.
    both = MEASURES[name](np.stack([R, R]), LEARNED)
    assert both.tolist() == pytest.approx([BY_HAND[name]] * 2)


def test_the_best_may_be_later_than_the_own_step() -> None:
    """What a later step gave and the last one took counts as forgotten; BWT sees none of it."""
    r = R.copy()
    r[2, 0] = 0.97
    assert float(sequence.forgetting(r, LEARNED)) == pytest.approx((0.13 + 0.15) / 2)
    assert float(sequence.backward_transfer(r, LEARNED)) == pytest.approx(
        BY_HAND["backward_transfer"]
    )
    r[0, 0] = 1.0
    assert float(sequence.forgetting(r, LEARNED)) == pytest.approx((0.13 + 0.15) / 2)


def test_several_targets_a_step_in_any_order() -> None:
    """Columns 3 and 1 are learned first, together; then column 2."""
    learned = np.array([1, 2, 1])
    r = R[[0, 1, 3]]
    assert float(sequence.backward_transfer(r, learned)) == pytest.approx(
        ((0.84 - 0.90) + (0.95 - 0.28)) / 2
    )
    assert float(sequence.forward_transfer(r, learned)) == pytest.approx(0.45 - 0.40)
    assert float(sequence.forgetting(r, learned)) == pytest.approx((0.06 - 0.67) / 2)
    assert in_order([["c", "a"], ["b"]]) == {"c": 1, "a": 1, "b": 2}


def records(scores: dict[str, list[list[float]]], column: str = "score") -> pd.DataFrame:
    """`scores`: by task, of each seed one an example."""
    rows = [
        {
            "task": task,
            "split": "test",
            "condition": "clean",
            "seed": seed,
            "example_id": f"e{at}",
            "group": f"e{at}",
            "bytes": 10,
            column: value,
        }
        for task, seeds in scores.items()
        for seed, values in enumerate(seeds)
        for at, value in enumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def of_two(column: str = "score", measure: object = ACCURACY, **tasks: object) -> SequenceResult:
    base = records({"a": [[1, 0, 0, 0]], "b": [[0, 0, 1, 0]], "kept": [[1, 1, 1, 0]]}, column)
    first = records(
        {
            "a": [[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]],
            "b": [[0, 1, 1, 0]] * 3,
            "kept": [[1, 0, 1, 0]] * 3,
        },
        column,
    )
    second = records(
        {
            "a": [[1, 1, 0, 0], [0, 0, 1, 0]],
            "b": [[1, 1, 1, 1], [1, 1, 1, 0]],
            "kept": [[0, 0, 1, 0]] * 2,
        },
        column,
    )
    measures = {"b": measure, "a": measure, "kept": ACCURACY, **tasks}
    return follow(
        base,
        {"one": first, "two": second},
        {"a": 1, "b": 2},
        measures,  # type: ignore[arg-type]
        confidence=0.95,
        draws=200,
        seed=0,
    )


def value_of(found: SequenceResult) -> dict[str, float]:
    """Of each measure; none is undefined."""
    values = {}
    for name, one in found.measures.items():
        assert isinstance(one, Interval), name
        values[name] = one.value
    return values


def test_from_records() -> None:
    """The seeds of the last step alone, averaged; columns in the order of learning."""
    found = of_two()
    assert list(found.figures) == ["a", "b", "kept"]
    assert found.figures["a"] == pytest.approx((0.25, 0.875, 0.375))
    assert found.figures["b"] == pytest.approx((0.25, 0.5, 0.875))
    assert found.figures["kept"] == pytest.approx((0.75, 0.5, 0.25))
    assert value_of(found) == pytest.approx(
        {
            "average_accuracy": 0.625,
            "backward_transfer": -0.5,
            "forward_transfer": 0.25,
            "forgetting": 0.5,
        }
    )
    for one in found.measures.values():
        assert isinstance(one, Interval)
        assert one.low <= one.value <= one.high
    transfer = found.measures["forward_transfer"]
    assert isinstance(transfer, Interval)
    assert transfer.low < transfer.high
    # Seed 0 lost 0.25 of task a, seed 1 lost 0.75.
    assert found.spread["forgetting"] == pytest.approx(np.std([0.25, 0.75], ddof=1))
    assert found.spread["forward_transfer"] == 0


def test_of_text_less_is_better() -> None:
    """Bits per byte: what rose was forgotten; the average stays as it is measured."""
    found = of_two("nll", BITS_PER_BYTE, kept=BITS_PER_BYTE)
    bits = 1 / np.log(2) / 10
    assert found.figures["a"] == pytest.approx((0.25 * bits, 0.875 * bits, 0.375 * bits))
    assert value_of(found) == pytest.approx(
        {
            "average_accuracy": 0.625 * bits,
            "backward_transfer": 0.5 * bits,
            "forward_transfer": -0.25 * bits,
            "forgetting": -0.5 * bits,
        }
    )


def test_targets_in_different_units_have_no_mean() -> None:
    """But each of them what is a mean over it alone: a is of the earlier step, b of the later."""
    base = records({"a": [[1, 0]]}).assign(nll=3.0)
    both = pd.concat([base, base.assign(task="b")])
    found = follow(
        both,
        {"one": both.assign(nll=1.0), "two": both.assign(score=0.25)},
        {"a": 1, "b": 2},
        {"a": ACCURACY, "b": BITS_PER_BYTE},
        confidence=0.95,
        draws=100,
        seed=0,
    )
    average = found.measures["average_accuracy"]
    assert isinstance(average, Undefined)
    assert "units" in average.reason
    assert "average_accuracy" not in found.spread
    assert (found.counted["forgetting"], found.counted["forward_transfer"]) == (("a",), ("b",))
    others = {name: one for name, one in found.measures.items() if name != "average_accuracy"}
    assert value_of(replace(found, measures=others)) == pytest.approx(
        {
            "backward_transfer": -0.25,
            "forward_transfer": 2 / np.log(2) / 10,
            "forgetting": 0.25,
        }
    )
