"""How many draws a family of tests needs."""

import numpy as np
import pytest

from stages.statistics.draws import enough_draws
from stages.statistics.paired import holm, sign_flip


def test_enough_is_left_as_it_is() -> None:
    assert enough_draws(2000, 5, 0.95) == 2000
    assert enough_draws(2000, 82, 0.95) == 32_800


@pytest.mark.parametrize("tests", [1, 7, 150])
def test_the_surest_of_many_can_be_sure(tests: int) -> None:
    """One large loss, and nothing else: unlike sizes, so that the test draws."""
    loss = np.linspace(0.5, 1.5, 40)
    draws = enough_draws(100, tests, 0.99)
    p = {"lost": sign_flip(loss, range(40), draws, 0)}
    p |= {f"kept {number}": 1.0 for number in range(tests - 1)}
    assert holm(p)["lost"] < 0.01
