"""Sums of two numbers of as many digits."""

import random
from itertools import islice

import pandas as pd

from stages.tasks.choices import COLUMNS, choose

PER_SLICE = 400
DRAWN = 20 * PER_SLICE  # enough for the rarest slice: one 3-digit sum in seven has no carry

ERRORS = (1, 2, 9, 10, 11, 20)
"""How far a near miss is off: in the units, the tens, or a carry forgotten."""


def read_addition(seed: int) -> pd.DataFrame:
    """At most 400 sums a slice, drawn with `seed`; slice: the digits of the numbers, and
    whether there is a carry; group: the two numbers, in either order.

    The wrong answers are near misses, of as many digits as the right one where there are such.
    """
    rows = []
    for digits in (1, 2, 3):
        sums = _sums(seed, digits)
        for carry in (False, True):
            name = f"{digits}-digit, {'carry' if carry else 'no carry'}"
            chosen = ((first, second) for first, second, carries in sums if carries == carry)
            for first, second in islice(chosen, PER_SLICE):
                context = f"{first} + {second} ="
                choices, answer = _choose(seed, context, first + second)
                group = f"{min(first, second)} + {max(first, second)}"
                rows.append((context, choices, answer, group, name))
    return pd.DataFrame(rows, columns=COLUMNS)


def _sums(seed: int, digits: int) -> list[tuple[int, int, bool]]:
    """Distinct pairs of numbers without a zero in front, and whether adding them carries."""
    low = 10 ** (digits - 1)
    span = 9 * low
    drawn = random.Random(f"{seed} {digits}").sample(range(span**2), min(span**2, DRAWN))
    pairs = [(low + number // span, low + number % span) for number in drawn]
    return [(first, second, _carries(first, second)) for first, second in pairs]


def _carries(first: int, second: int) -> bool:
    columns = zip(str(first), str(second), strict=True)
    return any(int(above) + int(below) > 9 for above, below in columns)


def _choose(seed: int, context: str, total: int) -> tuple[list[str], int]:
    misses = [total + sign * error for error in ERRORS for sign in (1, -1)]
    return choose(
        seed,
        context,
        str(total),
        [str(miss) for miss in misses if miss > 0],
        distance=lambda miss: len(miss) != len(str(total)),
    )
