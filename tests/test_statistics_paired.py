"""Paired comparisons against scipy and statsmodels, by hand, and under a simulated null."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from stages.statistics import paired
from stages.statistics.intervals import Interval
from stages.statistics.paired import Undefined, holm, mcnemar, retained, sign_flip, transitions

pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


def outcomes(lost: int, won: int, right: int, wrong: int) -> tuple[list[int], list[int]]:
    before = [1] * lost + [0] * won + [1] * right + [0] * wrong
    after = [0] * lost + [1] * won + [1] * right + [0] * wrong
    return before, after


# Transitions


def test_transitions_worked_by_hand() -> None:
    # Of 20: 4 lost, 1 won, 10 right and 5 wrong both times. a0 = 14/20, a1 = 11/20.
    before, after = outcomes(4, 1, 10, 5)
    counts = transitions(before, after, [4] * 20)
    assert (counts.n, counts.lost, counts.won) == (20, 4, 1)
    assert counts.forgetting == 0.2
    assert counts.backward_transfer == 0.05
    # Guessing: (6/20)(9/20)/3 = 0.045
    assert counts.adjusted_forgetting == pytest.approx(0.155)
    assert counts.adjusted_backward_transfer == pytest.approx(0.005)


def test_adjustment_is_cut_off_at_zero() -> None:
    # a0 = a1 = 1/2, k = 2: guessing alone gives 1/4 of each transition; 1/10 was seen.
    counts = transitions(*outcomes(2, 2, 8, 8), [2] * 20)
    assert counts.adjusted_forgetting == 0
    assert counts.adjusted_backward_transfer == 0


def test_without_options_nothing_is_adjusted() -> None:
    counts = transitions([1, 0], [0, 0])
    assert counts.adjusted_forgetting is None
    assert counts.adjusted_backward_transfer is None


def test_guesses_are_adjusted_away_whatever_the_options() -> None:
    # Knows 40 % before and, independently, 30 % after; guesses among 2, 5 or 20 elsewhere.
    # What is really forgotten is what is known before, and after neither known nor guessed.
    generator = np.random.default_rng(0)
    n = 400_000
    options = generator.choice([2, 5, 20], size=n)
    known0, known1 = generator.random(n) < 0.4, generator.random(n) < 0.3
    guess0, guess1 = generator.random((2, n)) < 1 / options
    counts = transitions(known0 | guess0, known1 | guess1, options)
    truly = (known0 & ~known1 & ~guess1).mean()
    assert counts.adjusted_forgetting == pytest.approx(truly, abs=0.004)
    truly = (~known0 & ~guess0 & known1).mean()
    assert counts.adjusted_backward_transfer == pytest.approx(truly, abs=0.004)


@given(pairs, st.floats(2, 50))
def test_transitions_balance(scores: list[tuple[int, int]], k: float) -> None:
    before, after = np.array(scores).T
    counts = transitions(before, after, np.full(len(scores), k))
    drop = counts.forgetting - counts.backward_transfer
    assert drop == pytest.approx(before.mean() - after.mean())
    expected = (1 - before.mean()) * (1 - after.mean()) / (k - 1)
    assert counts.adjusted_forgetting == pytest.approx(max(0, counts.forgetting - expected))
    back = transitions(after, before, np.full(len(scores), k))
    assert (back.lost, back.won) == (counts.won, counts.lost)
    assert back.adjusted_forgetting == counts.adjusted_backward_transfer


def test_transitions_refuse_what_they_cannot_count() -> None:
    with pytest.raises(ValueError, match="2 before, 1 after"):
        transitions([1, 0], [1])
    with pytest.raises(ValueError, match="1 of 2 examples have a score other than 0 and 1"):
        transitions([1, 0.5], [1, 0])
    with pytest.raises(ValueError, match="2 before, 3 options"):
        transitions([1, 0], [1, 0], [4, 4, 4])
    with pytest.raises(ValueError, match="1 of 2 examples have 1 option"):
        transitions([1, 0], [1, 0], [4, 1])


# McNemar


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (3, 9), (12, 4), (25, 25), (300, 250)])
def test_mcnemar_is_statsmodels(lost: int, won: int) -> None:
    expected = statsmodels_mcnemar([[7, lost], [won, 5]], exact=True).pvalue
    assert mcnemar(*outcomes(lost, won, 7, 5)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_worked_by_hand() -> None:
    # 5 lost, 1 won: 2 (1 + 6) / 2^6
    assert mcnemar(*outcomes(5, 1, 30, 4)) == pytest.approx(14 / 64)
    assert mcnemar(*outcomes(0, 0, 30, 4)) == 1


# Sign flips


@given(pairs)
def test_sign_flip_of_one_seed_is_mcnemar(scores: list[tuple[int, int]]) -> None:
    before, after = np.array(scores).T
    p = sign_flip(before - after, range(len(scores)), draws=1, seed=0)
    assert p == pytest.approx(mcnemar(before, after), rel=1e-12)


def test_sign_flip_enumerated_by_hand() -> None:
    # Sums 1, 2, 4. All signs give 7, 5, 3, 1 and their negatives: |5| or more is 4 of 8.
    assert sign_flip([-1, 2, 4], "abc", draws=1, seed=0) == 0.5
    assert sign_flip([1, 2, 4], "abc", draws=1, seed=0) == 0.25


def test_sign_flip_turns_whole_groups() -> None:
    # Sums by group 3, -1 and 0: |2| or more in every flip (+-4, +-2). Alone: 4 of +-1.
    assert sign_flip([1, 1, 1, -1, 1, -1], [0, 0, 0, 1, 2, 2], draws=1, seed=0) == 1
    # Two groups of 10, all falling: 2 of 4 flips, however many examples.
    assert sign_flip(np.ones(20), np.repeat([0, 1], 10), draws=1, seed=0) == 0.5


def test_sign_flip_is_scipy_where_enumerated() -> None:
    differences = np.random.default_rng(2).normal(0.5, 1, size=10)
    expected = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**10
    ).pvalue
    assert sign_flip(differences, range(10), draws=1, seed=0) == pytest.approx(expected)


def test_sign_flip_drawn_agrees_with_enumerated(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, size=12)
    exact = sign_flip(differences, range(12), draws=1, seed=0)
    monkeypatch.setattr(paired, "_ENUMERATED", 0)
    drawn = sign_flip(differences, range(12), draws=20_000, seed=0)
    assert drawn == pytest.approx(exact, abs=0.012)


def test_sign_flip_never_claims_more_than_its_draws() -> None:
    differences = np.random.default_rng(0).normal(10, 1, size=200)
    assert sign_flip(differences, range(200), draws=99, seed=0) == 0.01


@pytest.mark.parametrize("cells", [1, 300, 1000])
def test_sign_flip_chunks_leave_no_trace(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(1).normal(0.1, 1, size=77)
    whole = sign_flip(differences, range(77), draws=300, seed=8)
    assert whole == sign_flip(differences, range(77), draws=300, seed=8)
    monkeypatch.setattr(paired, "_CELLS", cells)
    assert whole == sign_flip(differences, range(77), draws=300, seed=8)
    assert whole != sign_flip(differences, range(77), draws=300, seed=9)


def test_sign_flip_overlooks_rounding() -> None:
    # Seed means such as 1/3 + 1/3 - 2/3 leave dust, which is neither a group nor a size.
    dust = [0.1, 0.2, -0.3]
    assert sign_flip(dust, [0, 0, 0], draws=1, seed=0) == 1
    sizes = [0.3, 0.1 + 0.2] * 8
    exact = sign_flip([*dust, *sizes], [0, 0, 0, *range(1, 17)], draws=1, seed=0)
    assert exact == pytest.approx(2 / 2**16)


def test_sign_flip_raises_few_alarms_under_the_null() -> None:
    generator = np.random.default_rng(11)
    alarms = 0
    for trial in range(1000):
        groups = generator.integers(25, size=60)
        # Skewed by group, yet symmetric: before and after are exchangeable.
        scores = generator.random((2, 60)) < generator.beta(2, 1, size=25)[groups]
        seeds = scores.astype(float) + generator.integers(0, 2, size=(2, 60)) / 3
        alarms += sign_flip(seeds[0] - seeds[1], groups, draws=199, seed=trial) <= 0.05
    assert 0.02 <= alarms / 1000 <= 0.065


@settings(max_examples=80)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=40), st.data())
def test_sign_flip_properties(differences: list[float], data: st.DataObject) -> None:
    n = len(differences)
    groups = data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))
    p = sign_flip(differences, groups, draws=99, seed=3)
    assert 0 < p <= 1
    # Before and after exchanged, or the unit changed.
    assert sign_flip([-d for d in differences], groups, draws=99, seed=3) == p
    assert sign_flip([100 * d for d in differences], groups, draws=99, seed=3) == p


@given(st.lists(st.integers(0, 1), min_size=1, max_size=50))
def test_identical_outcomes_show_nothing(scores: list[int]) -> None:
    counts = transitions(scores, scores)
    assert counts.forgetting == counts.backward_transfer == 0
    assert mcnemar(scores, scores) == 1
    assert sign_flip(np.zeros(len(scores)), range(len(scores)), draws=10, seed=0) == 1


def test_sign_flip_refuses_mismatches() -> None:
    with pytest.raises(ValueError, match="2 differences, 3 groups"):
        sign_flip([1, 0], [0, 1, 2], draws=10, seed=0)
    with pytest.raises(ValueError, match="0 draws"):
        sign_flip([1, 0], [0, 1], draws=0, seed=0)


# Holm


def test_holm_worked_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, then never falling.
    adjusted = holm({"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02})
    assert adjusted == pytest.approx({"d": 0.06, "a": 0.04, "c": 0.06, "b": 0.06})
    assert list(adjusted) == ["d", "a", "c", "b"]
    assert holm({}) == {}
    assert holm({"only": 0.03}) == {"only": 0.03}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p(p_values: dict[str, float]) -> None:
    adjusted = holm(p_values)
    assert all(p_values[name] <= adjusted[name] <= 1 for name in p_values)


def test_holm_is_statsmodels() -> None:
    raw = np.random.default_rng(3).random(12) ** 4
    expected = multipletests(raw, method="holm")[1]
    adjusted = holm({str(index): p for index, p in enumerate(raw)})
    assert list(adjusted.values()) == pytest.approx(expected)


def test_holm_refuses_what_is_no_p() -> None:
    with pytest.raises(ValueError, match="1 of 2 p lie outside"):
        holm({"a": 0.5, "b": 1.5})


# Retained


def test_retained_worked_by_hand() -> None:
    before = Interval(0.65, 0.5, 0.8)
    assert retained(before, 0.45, chance=0.25) == pytest.approx(0.5)
    assert retained(before, 0.65, chance=0.25) == 1
    assert retained(before, 0.2, chance=0.25) == pytest.approx(-0.125)


def test_retained_gives_its_reason() -> None:
    answer = retained(Interval(0.31, 0.24, 0.39), 0.3, chance=0.25)
    assert isinstance(answer, Undefined)
    reason = "accuracy before, 0.310 (0.240 to 0.390), is not clearly above chance, 0.250"
    assert answer.reason == reason
    assert isinstance(retained(Interval(0.3, 0.25, 0.4), 0.3, chance=0.25), Undefined)


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 0.99))
def test_retained_is_one_where_nothing_changed(value: float, low: float, chance: float) -> None:
    assume(low <= value)
    answer = retained(Interval(value, low, 1.0), value, chance)
    assert isinstance(answer, Undefined) if low <= chance else answer == 1
