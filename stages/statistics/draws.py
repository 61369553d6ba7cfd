"""How often a permutation test has to draw to be able to say something."""

import math

BELOW = 20
"""Times that the smallest p of a test, adjusted, fits below the level of a claim."""


def enough_draws(draws: int, tests: int, confidence: float) -> int:
    """`draws`, or as many more as let one of so many `tests` be sure at `confidence`.

    A p from n draws is 1 / (n + 1) at least, and Holm's adjustment multiplies the smallest by the
    number of tests: with 82 of them and 2,000 draws none could be below 0.041.
    """
    return max(draws, math.ceil(BELOW * tests / (1 - confidence)))
