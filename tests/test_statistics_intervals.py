"""Intervals against closed forms, hand-worked cases, and their own promised coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, norm

from stages.statistics import intervals
from stages.statistics.arrays import Floats, group_codes, matrix, vectors
from stages.statistics.intervals import Bootstrap, Interval, mean_of, percentile, wilson


def all_weights(bootstrap: Bootstrap) -> Floats:
    return np.concatenate(list(bootstrap.weights()))


# Wilson


def test_wilson_worked_by_hand() -> None:
    # 8 of 10 at 95 %: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.96
    z = float(norm.ppf(0.975))
    centre = 0.8 + z**2 / 20
    reach = z * np.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    interval = wilson(8, 10, 0.95)
    assert interval.value == 0.8
    assert interval.low == pytest.approx((centre - reach) / (1 + z**2 / 10))
    assert interval.high == pytest.approx((centre + reach) / (1 + z**2 / 10))
    assert interval.low == pytest.approx(0.490, abs=5e-4)
    assert interval.high == pytest.approx(0.943, abs=5e-4)


def test_wilson_keeps_a_width_at_the_ends() -> None:
    # With no success the upper end is z^2 / (n + z^2); with n successes it is the mirror.
    z2 = float(norm.ppf(0.975)) ** 2
    nothing, everything = wilson(0, 20, 0.95), wilson(20, 20, 0.95)
    assert (nothing.low, nothing.high) == pytest.approx((0, z2 / (20 + z2)))
    assert (everything.low, everything.high) == pytest.approx((20 / (20 + z2), 1))


@given(st.integers(1, 5000), st.data(), st.floats(0.5, 0.999))
def test_wilson_holds_its_value(n: int, data: st.DataObject, confidence: float) -> None:
    interval = wilson(data.draw(st.integers(0, n)), n, confidence)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {n} examples"):
        wilson(successes, n, 0.95)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        percentile(0, [0.0, 1.0], confidence)


# The bootstrap against what can be worked out


def test_two_clusters_worked_by_hand() -> None:
    # Groups a = (1, 1, 1), b = (0). Two groups drawn: aa, ab, ba or bb, with means
    # 6/6, 3/4, 3/4 and 0/2 (a ratio of sums, not the mean of group means 1, 1/2, 0).
    bootstrap = Bootstrap(["a", "a", "b", "a"], 4000, seed=1)
    means = all_weights(bootstrap) @ [1, 1, 0, 1] / all_weights(bootstrap).sum(axis=1)
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0, 0.75, 1]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    interval = bootstrap.mean([1, 1, 0, 1], 0.4)
    assert (interval.value, interval.low, interval.high) == (0.75, 0.75, 0.75)
    interval = bootstrap.mean([1, 1, 0, 1], 0.9)
    assert (interval.low, interval.high) == (0, 1)


def test_weights_count_whole_groups() -> None:
    groups = [3, "x", 3, (1, 2), "x", 3]
    weights = all_weights(Bootstrap(groups, 500, seed=0))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    # As many groups are drawn as there are, each equally often on average.
    drawn = weights[:, [0, 1, 3]]
    assert (drawn.sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.12)


@pytest.mark.parametrize("n", [400, 20_000])
def test_proportion_has_binomial_quantiles(n: int) -> None:
    # Both ways of drawing: example by example (kept), and by distinct value.
    scores = np.arange(n) < 0.3 * n
    interval = Bootstrap(range(n), 4000, seed=3).mean(scores, 0.9)
    exact = binom.ppf([0.05, 0.95], n, 0.3) / n
    tolerance = 0.2 * np.sqrt(0.3 * 0.7 / n)
    assert interval.value == pytest.approx(0.3)
    assert [interval.low, interval.high] == pytest.approx(exact, abs=tolerance)


def test_continuous_scores_near_the_normal_interval() -> None:
    scores = np.random.default_rng(0).normal(2, 3, size=6000)
    interval = Bootstrap(range(6000), 1500, seed=0).mean(scores, 0.95)
    reach = 1.96 * scores.std() / np.sqrt(6000)
    assert interval.low == pytest.approx(scores.mean() - reach, abs=0.12 * reach)
    assert interval.high == pytest.approx(scores.mean() + reach, abs=0.12 * reach)


def test_mean_and_weights_see_the_same_resamples() -> None:
    generator = np.random.default_rng(5)
    groups, scores = generator.integers(40, size=200), generator.random(200)
    bootstrap = Bootstrap(groups, 300, seed=5)
    weights = all_weights(bootstrap)
    expected = percentile(scores.mean(), weights @ scores / weights.sum(axis=1), 0.9)
    interval = bootstrap.mean(scores, 0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_clusters_widen_the_interval() -> None:
    scores = np.repeat(np.arange(100) % 2, 10)
    alone = Bootstrap(range(1000), 500, seed=0).mean(scores, 0.95)
    clustered = Bootstrap(np.repeat(np.arange(100), 10), 500, seed=0).mean(scores, 0.95)
    ratio = (clustered.high - clustered.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.2)


def test_a_mean_that_never_varies_has_no_width() -> None:
    interval = Bootstrap(range(20), 100, seed=0).mean(np.zeros(20), 0.95)
    assert (interval.low, interval.value, interval.high) == (0, 0, 0)


# Reproducible, and bounded


def test_same_seed_same_resamples_and_another_seed_others() -> None:
    first, again, other = (Bootstrap(range(50), 20, seed=seed) for seed in (1, 1, 2))
    assert (all_weights(first) == all_weights(again)).all()
    assert (all_weights(first) != all_weights(other)).any()


@pytest.mark.parametrize("cells", [1, 70, 1000])
def test_chunks_leave_no_trace(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    groups, scores = generator.integers(30, size=100), generator.random(100)
    whole = Bootstrap(groups, 50, seed=4)
    weights, interval = all_weights(whole), whole.mean(scores, 0.9)
    monkeypatch.setattr(intervals, "_CELLS", cells)
    chunks = list(Bootstrap(groups, 50, seed=4).weights())
    assert max(chunk.size for chunk in chunks) <= max(cells, 100)
    assert (np.concatenate(chunks) == weights).all()
    again = Bootstrap(groups, 50, seed=4).mean(scores, 0.9)
    assert (again.low, again.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_a_million_examples() -> None:
    n = 1_000_000
    bootstrap = Bootstrap(range(n), 2000, seed=0)
    interval = bootstrap.mean(np.arange(n) % 4 == 0, 0.95)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(3 / 16 / n), rel=0.1)
    assert next(bootstrap.weights()).nbytes <= 8 * intervals._CELLS


def test_renaming_groups_changes_nothing() -> None:
    first = Bootstrap(["b", "a", "b", "c"], 10, seed=0)
    second = Bootstrap([1, 0, 1, 7], 10, seed=0)
    assert (all_weights(first) == all_weights(second)).all()


# Coverage


def test_cluster_bootstrap_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(20)
    covered = 0
    for trial in range(300):
        sizes = generator.integers(1, 6, size=60)
        groups = np.repeat(np.arange(60), sizes)
        shares = generator.beta(2, 1, size=60)
        scores = generator.random(len(groups)) < shares[groups]
        interval = Bootstrap(groups, 400, seed=trial).mean(scores, 0.9)
        covered += interval.low <= 2 / 3 <= interval.high
    # Three standard errors of a share of 0.9 over 300 are 0.052.
    assert covered / 300 == pytest.approx(0.9, abs=0.055)


@settings(max_examples=60)
@given(arrays(float, st.integers(2, 30), elements=st.floats(-5, 5)), st.data())
def test_mean_interval_holds_its_value(scores: Floats, data: st.DataObject) -> None:
    n = len(scores)
    groups = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    groups[0], groups[1] = 0, 1
    interval = Bootstrap(groups, 30, seed=0).mean(scores, data.draw(st.floats(0.05, 0.99)))
    assert interval.low <= interval.value <= interval.high
    assert interval.value == pytest.approx(scores.mean())
    assert interval.low >= scores.min() - 1e-9
    assert interval.high <= scores.max() + 1e-9


# What does not fit


def test_mismatches_are_counted() -> None:
    with pytest.raises(ValueError, match="3 values for 4 examples"):
        Bootstrap(range(4), 10, seed=0).mean([1, 0, 1], 0.9)
    with pytest.raises(ValueError, match=r"3 examples in 1 group\(s\)"):
        Bootstrap(["a"] * 3, 10, seed=0)
    with pytest.raises(ValueError, match="0 draws"):
        Bootstrap(range(4), 0, seed=0)
    with pytest.raises(ValueError, match="1 of 4 values of values are not finite"):
        Bootstrap(range(4), 10, seed=0).mean([1, 0, 1, np.nan], 0.9)


def test_arrays_are_checked() -> None:
    with pytest.raises(ValueError, match="2 before, 3 after"):
        vectors(before=[1, 0], after=[1, 0, 1])
    with pytest.raises(ValueError, match="before needs 1 dimension"):
        vectors(before=[])
    with pytest.raises(ValueError, match="scores needs 2 dimension"):
        matrix("scores", [1, 2])
    assert group_codes(["b", "a", "b", 1]).tolist() == [0, 1, 0, 2]


def test_a_proportion_keeps_a_width_where_all_are_right() -> None:
    drawn = Bootstrap(range(8), 200, 0)
    assert drawn.mean(np.ones(8), 0.95).low == 1
    kept = drawn.proportion(np.ones(8), 0.95)
    assert (kept.value, kept.high) == (1, 1)
    assert kept.low == pytest.approx(wilson(8, 8, 0.95).low)
    # Four groups that are all right or all wrong: the bootstrap over groups is the wider one.
    values = np.repeat([1.0, 1.0, 0.0, 0.0], 25)
    clustered = Bootstrap(np.repeat(range(4), 25), 400, 0)
    assert clustered.proportion(values, 0.95) == clustered.mean(values, 0.95)


# A mean of estimates


def test_the_mean_of_estimates_by_hand() -> None:
    found = mean_of([Interval(0.1, 0.07, 0.2), Interval(0.3, 0.26, 0.3)])
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.175, 0.25))
    alone = mean_of([Interval(0.1, 0.07, 0.2)])
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.1, 0.07, 0.2))


def test_the_mean_of_estimates_is_as_the_bootstrap_has_it() -> None:
    """Of three tasks, resampled apart from one another."""
    generator = np.random.default_rng(3)
    tasks = [generator.normal(mean, 0.4, n) for mean, n in ((0.1, 200), (0.0, 400), (0.3, 150))]
    drawn = [
        Bootstrap(range(len(one)), 4000, at).resampled(one[None])[:, 0]
        for at, one in enumerate(tasks)
    ]
    values = [float(one.mean()) for one in tasks]
    each = [percentile(*one, 0.95) for one in zip(values, drawn, strict=True)]
    joint = percentile(float(np.mean(values)), np.mean(drawn, axis=0), 0.95)
    found = mean_of(each)
    assert found.value == pytest.approx(joint.value)
    assert (found.low, found.high) == pytest.approx((joint.low, joint.high), abs=0.002)
