"""F1 of entities and labels, as one value an example whose mean it is."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from stages.statistics.intervals import Bootstrap, percentile
from stages.statistics.measures import measure_for, values
from stages.statistics.score_interval import interval_for
from stages.statistics.sets import entities, f1, linearised, micro_f1, of_labels, of_tags

SEQEVAL = [
    (
        ["B-PER O B-LOC O", "B-PER O I-PER O B-LOC", "I-PER O I-PER I-PER B-PER O"],
        ["O O B-LOC O", "B-PER O I-PER O B-LOC", "I-LOC O I-PER I-PER B-PER B-PER"],
        0.75,
    ),
    (
        [
            "E-LOC E-PER E-PER E-LOC I-PER B-PER I-LOC",
            "B-PER B-LOC I-PER E-PER E-LOC E-PER",
            "B-LOC B-LOC S-PER",
        ],
        [
            "E-LOC E-PER S-PER E-LOC E-LOC B-PER I-LOC",
            "B-PER B-LOC I-PER E-PER O I-PER",
            "E-PER B-LOC S-PER",
        ],
        0.8275862068965518,
    ),
    (
        [
            "I-LOC O B-PER I-LOC B-LOC I-PER",
            "B-PER",
            "B-LOC",
            "I-LOC B-LOC B-LOC B-PER B-PER B-PER O",
            "B-PER B-PER",
            "I-LOC B-LOC B-PER I-PER I-LOC",
        ],
        [
            "I-LOC B-PER B-LOC I-LOC B-LOC O",
            "B-PER",
            "B-LOC",
            "I-LOC B-LOC B-LOC B-PER B-PER I-PER O",
            "B-PER I-PER",
            "I-LOC B-LOC B-PER O I-LOC",
        ],
        0.6285714285714286,
    ),
    (
        [
            "E-PER I-LOC",
            "E-LOC",
            "O B-LOC O I-LOC B-LOC",
            "O B-LOC B-PER",
            "S-PER I-LOC I-PER E-LOC E-LOC",
            "B-LOC B-LOC E-PER E-PER",
        ],
        [
            "E-PER I-LOC",
            "E-LOC",
            "I-PER B-LOC O I-LOC E-LOC",
            "O B-LOC B-PER",
            "S-PER B-LOC I-PER E-LOC E-LOC",
            "E-LOC B-PER S-PER B-PER",
        ],
        0.8235294117647058,
    ),
]
"""Random tags with what seqeval 1.2.2's f1_score said of them (default mode, numpy 2.4)."""


def records(targets: list[str], predictions: list[str], seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"target": targets, "prediction": predictions, "seed": seed})


@pytest.mark.parametrize(("targets", "predictions", "expected"), SEQEVAL)
def test_entity_f1_is_that_of_seqeval(
    targets: list[str], predictions: list[str], expected: float
) -> None:
    found = values(records(targets, predictions), measure_for("token-classification", None))
    assert len(found) == len(targets)
    assert found.mean() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # What seqeval's get_entities gives.
        (
            "O I-LOC I-PER O B-LOC B-LOC",
            [("LOC", 1, 1), ("PER", 2, 2), ("LOC", 4, 4), ("LOC", 5, 5)],
        ),
        ("S-PER S-PER E-LOC E-LOC", [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 2), ("LOC", 3, 3)]),
        ("I-A I-A B-A E-A O E-A I-A", [("A", 0, 1), ("A", 2, 3), ("A", 5, 5), ("A", 6, 6)]),
        ("O O", []),
        ("B-a-b I-a-b", [("a-b", 0, 1)]),
    ],
)
def test_entities(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == set(expected)


def test_a_linearised_ratio_varies_as_the_ratio_does() -> None:
    draw = np.random.default_rng(1)
    whole = draw.integers(0, 9, 400).astype(float)
    part = draw.binomial(whole.astype(int), 0.7).astype(float)
    found = linearised(part, whole)
    assert found.mean() == pytest.approx(part.sum() / whole.sum(), abs=1e-12)
    groups = draw.integers(0, 150, 400)
    bootstrap = Bootstrap(groups, 4000, 0)
    sums = bootstrap.resampled(np.stack([part, whole]))
    exact = percentile(float(found.mean()), sums[:, 0] / sums[:, 1], 0.95)
    close = bootstrap.mean(found, 0.95)
    width = exact.high - exact.low
    assert close.low == pytest.approx(exact.low, abs=0.05 * width)
    assert close.high == pytest.approx(exact.high, abs=0.05 * width)
    # Taken as a mean of each example's own ratio it would be another figure.
    assert abs(np.mean(part[whole > 0] / whole[whole > 0]) - found.mean()) > 0.001


def test_nothing_to_find_and_nothing_found() -> None:
    """As seqeval and scikit-learn: 0 over all, where each example alone is right."""
    found = micro_f1(records(["O O", "O"], ["O O", "O"]), of_tags)
    assert found.tolist() == [0, 0]
    assert f1(set(), set()) == 1
    assert f1(set(), {1}) == 0


def test_seeds_are_figures_of_their_own() -> None:
    first, second = (
        records(["B-A O", "B-A"], answers) for answers in (["O O", "B-A"], ["B-A O", "O"])
    )
    measure = measure_for("token-classification", None)
    together = pd.concat([first, second.assign(seed=1)], ignore_index=True)
    expected = [*values(first, measure), *values(second, measure)]
    assert values(together, measure).tolist() == expected
    mixed = together.iloc[[2, 0, 3, 1]]
    assert values(mixed, measure).tolist() == [expected[at] for at in (2, 0, 3, 1)]


def test_an_interval_has_a_width_where_nothing_differs() -> None:
    interval = interval_for(of_text=False, of_all=True)
    found = interval(np.zeros(20), range(20), 0.9)
    assert found.low < -0.1 < 0.1 < found.high
    # Differences of a linearised figure may be larger than 1.
    wide = interval([3.0, -1.5, 0.2, 0.1] * 5, range(20), 0.9)
    assert wide.value == pytest.approx(0.45)
    assert wide.low < 0.1 < 0.8 < wide.high


def test_micro_f1_of_labels_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    target, found = draw.random((2, 40, 5)) < 0.3
    names = np.array(list("abcde"))
    texts = [[json.dumps(names[row].tolist()) for row in side] for side in (target, found)]
    micro = values(records(texts[0], texts[1]), measure_for("multi-label", None))
    assert micro.mean() == pytest.approx(f1_score(target, found, average="micro"), abs=1e-12)
    assert of_labels('["b", "a"]') == {"a", "b"}
