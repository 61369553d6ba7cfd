"""Distances between samples of texts: against scikit-learn, by hand, and on what is the same."""

import math

import numpy as np
import pytest
from scipy.stats import ortho_group
from sklearn.metrics import roc_auc_score

from stages.statistics import shift
from stages.statistics.similarity import debiased_cka

generator = np.random.default_rng(0)


def test_n_gram_distance_by_hand() -> None:
    assert shift.n_gram_distance(["The cat."], ["the CAT"]) == 0
    assert shift.n_gram_distance(["abc"], ["xyz"]) == pytest.approx(1)
    # abc, bcd against abc: M = (3/4, 1/4); JS = (KL(P||M) + KL(Q||M)) / 2.
    kl = (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(2), math.log2(1 / 0.75))
    assert shift.n_gram_distance(["abcd"], ["abc"]) == pytest.approx(math.sqrt(sum(kl) / 2))
    assert shift.n_gram_distance(["", "a"], ["b"]) == 0
    assert shift.n_gram_distance([""], ["abc"]) == 1


def test_words_and_lengths_by_hand() -> None:
    known = ["The red house", "a house"]
    assert shift.unknown_words(known, ["red roof", "a red dog"]) == pytest.approx(2 / 5)
    assert shift.unknown_words(known, ["..."]) == 0
    assert shift.mean_length(known) == 2.5


def test_embedding_distance_is_zero_on_average_for_one_source() -> None:
    found = [shift.embedding_distance(*generator.normal(size=(2, 40, 5))) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(200)
    far = shift.embedding_distance(generator.normal(size=(40, 5)), generator.normal(2, 1, (30, 5)))
    assert far > 10 * np.std(found)


def test_embedding_distance_by_hand() -> None:
    # Two pairs of points, 2 apart within and between: the median squared distance is 4.
    x, y = np.array([[0.0], [2.0]]), np.array([[0.0], [2.0]])
    e = math.exp(-1)
    assert shift.embedding_distance(x, y) == pytest.approx(e + e - 2 * (1 + 1 + 2 * e) / 4)
    assert shift.embedding_distance(np.ones((3, 2)), np.ones((3, 2))) == 0
    with pytest.raises(ValueError, match="1 and 2 texts"):
        shift.embedding_distance(x[:1], y)


def test_delong_against_scikit_learn_and_simulation() -> None:
    x, y = generator.normal(0.5, 1, 60).round(1), generator.normal(0, 1, 80).round(1)
    found = shift.delong(x, y)
    sides = np.repeat([1, 0], [60, 80])
    assert found.auc == pytest.approx(roc_auc_score(sides, np.concatenate([x, y])))
    drawn = [
        shift.delong(generator.normal(0.5, 1, 60), generator.normal(0, 1, 80)).auc
        for _ in range(2000)
    ]
    assert found.error == pytest.approx(np.std(drawn), rel=0.15)


def test_separation_tells_two_sources_apart_and_one_not() -> None:
    one, same, other = (generator.normal(mean, 1, size=(120, 30)) for mean in (0.0, 0.0, 0.5))
    alike, apart = shift.separation(one, same, 0), shift.separation(one, other, 0)
    assert abs(alike.auc - 0.5) < 3 * alike.error
    assert apart.auc > 0.9
    assert shift.separation(one, other, 0) == apart
    with pytest.raises(ValueError, match="4 and 120 texts: needs 5"):
        shift.separation(one[:4], other, 0)


def test_balance() -> None:
    assert shift.evenness([5, 5, 5]) == pytest.approx(1)
    assert shift.evenness([9, 0]) == 0
    assert shift.total_variation([1, 1], [30, 10]) == pytest.approx(0.25)
    assert shift.balance(np.array([3.0, 1.0])) == pytest.approx(
        {"evenness": 0.8113, "rarest": 0.25, "commonest": 0.75}, abs=1e-4
    )


# Linear CKA


def test_cka_of_a_rotation_is_one() -> None:
    x = generator.normal(size=(50, 8)) + 3
    turned = 7 * x @ ortho_group.rvs(8, random_state=0) - 2
    assert debiased_cka(x, turned) == pytest.approx(1)
    assert debiased_cka(x, x) == pytest.approx(1)


def test_cka_of_strangers_is_about_zero() -> None:
    """Where the biased one, with more dimensions than rows, is far from it."""
    found = [debiased_cka(*generator.normal(size=(2, 30, 100))) for _ in range(50)]
    assert abs(np.mean(found)) < 0.05


def test_cka_by_its_definition() -> None:
    """The sums of Song et al. 2012, equation 5, over distinct indices, one by one."""
    x, y = generator.normal(size=(2, 6, 3))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        quads = pairs = triples = 0.0
        pairs_n = triples_n = quads_n = 0
        for i in range(n):
            for j in range(n):
                if j == i:
                    continue
                pairs, pairs_n = pairs + k[i, j] * m[i, j], pairs_n + 1
                for q in range(n):
                    if q in (i, j):
                        continue
                    triples, triples_n = triples + k[i, j] * m[i, q], triples_n + 1
                    for r in range(n):
                        if r not in (i, j, q):
                            quads, quads_n = quads + k[i, j] * m[q, r], quads_n + 1
        return float(pairs / pairs_n + quads / quads_n - 2 * triples / triples_n)

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert debiased_cka(x, y) == pytest.approx(expected)


def test_what_cka_refuses() -> None:
    with pytest.raises(ValueError, match="3 and 3 rows"):
        debiased_cka(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="do not differ"):
        debiased_cka(np.ones((5, 2)), np.arange(10).reshape(5, 2))
