"""Seeds: a mean an example, and a spread that needs two."""

import pytest

from stages.statistics.seeds import seed_mean, seed_spread


def test_seeds_are_averaged_within_an_example() -> None:
    assert seed_mean([[1, 0, 1], [1, 0, 0]]).tolist() == [1, 0, 0.5]
    assert seed_mean([[1, 0, 1]]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="scores needs 2 dimension"):
        seed_mean([1, 0])


def test_spread_is_between_seeds() -> None:
    # 0.5, 0.6, 0.7: sqrt((0.01 + 0 + 0.01) / 2)
    assert seed_spread([0.5, 0.6, 0.7]) == pytest.approx(0.1)
    assert seed_spread([0.5, 0.5]) == 0
    assert seed_spread([0.5]) is None
    with pytest.raises(ValueError, match="means needs 1 dimension"):
        seed_spread([])
