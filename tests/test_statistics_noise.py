"""The noise floor, by hand and by its own promise."""

import numpy as np
import pytest

from stages.statistics.noise import noise_floor


def test_worked_by_hand() -> None:
    # Clean mean 1/2; net differences 1/4, 0, -1/4: mean 0, sd 1/4, t(2) at 95 % = 4.3027.
    clean = [1, 1, 0, 0]
    noise = noise_floor(clean, [[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]], 0.95)
    assert (noise.repeats, noise.mean, noise.spread) == (3, 0, 0.25)
    assert noise.flip_rate == pytest.approx(2 / 12)
    assert noise.floor == pytest.approx(4.302653 * 0.25 * np.sqrt(4 / 3))


def test_a_shift_is_part_of_the_floor_whichever_way_it_goes() -> None:
    # Net differences 1/2 and 1/2: no spread, yet nothing below 1/2 is real.
    noise = noise_floor([0, 0], [[1, 0], [0, 1]], 0.9)
    assert (noise.mean, noise.spread, noise.floor, noise.flip_rate) == (0.5, 0, 0.5, 0.5)
    assert noise_floor([1, 1], [[1, 0], [0, 1]], 0.9).floor == 0.5


def test_what_other_rows_take_from_every_refit_is_no_noise() -> None:
    # Net differences -1/2 and -1/4: mean -3/8, sd sqrt(2)/8, t(1) at 90 % = 6.3138.
    clean, refits = [1, 1, 0, 0], [[0, 0, 0, 0], [1, 0, 0, 0]]
    apart = noise_floor(clean, refits, 0.9, refitted=True)
    assert apart.mean == -0.375
    assert apart.floor == pytest.approx(6.313752 * np.sqrt(2) / 8 * np.sqrt(3 / 2))
    assert noise_floor(clean, refits, 0.9).floor == pytest.approx(apart.floor + 0.375)


def test_flips_that_cancel_are_seen_but_make_no_floor() -> None:
    noise = noise_floor([1, 0], [[0, 1], [0, 1]], 0.95)
    assert (noise.floor, noise.flip_rate) == (0, 1)


def test_no_noise_no_floor() -> None:
    scores = np.random.default_rng(0).random(1000)
    noise = noise_floor(scores, np.tile(scores, (4, 1)), 0.95)
    assert (noise.mean, noise.spread, noise.flip_rate, noise.floor) == (0, 0, 0, 0)


def test_the_next_repeat_stays_within_as_often_as_it_says() -> None:
    generator = np.random.default_rng(4)
    within = 0
    for _ in range(400):
        clean = generator.normal(size=20)
        repeats = clean + generator.normal(size=(6, 20))
        floor = noise_floor(clean, repeats[:5], 0.9).floor
        within += abs((repeats[5] - clean).mean()) <= floor
    # The larger end either way: at least the 90 % of the interval (3 standard errors: 0.045).
    assert within / 400 >= 0.855


def test_one_repeat_takes_its_spread_from_the_examples_that_moved() -> None:
    # Three of four moved, two up and one down: net 1/4, sd sqrt(3) / 4, z at 95 % = 1.959964.
    noise = noise_floor([0, 0, 1, 1], [[1, 1, 0, 1]], 0.95)
    assert (noise.repeats, noise.mean, noise.flip_rate) == (1, 0.25, 0.75)
    assert noise.spread == pytest.approx(np.sqrt(3) / 4)
    assert noise.floor == pytest.approx(0.25 + 1.959964 * np.sqrt(3) / 4)
    assert noise_floor([0, 1], [[0, 1]], 0.95).floor == 0


def test_the_floor_of_one_repeat_holds_for_the_next_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    within = 0
    for _ in range(400):
        clean = generator.random(200)
        first, second = clean + generator.normal(scale=0.1, size=(2, 200))
        within += abs((second - clean).mean()) <= noise_floor(clean, [first], 0.9).floor
    assert within / 400 >= 0.855


def test_refusals() -> None:
    with pytest.raises(ValueError, match="2 clean scores, 3 rescored"):
        noise_floor([1, 0], [[1, 0, 1], [1, 0, 1]], 0.95)
    with pytest.raises(ValueError, match="2 of 4 values of rescored are not finite"):
        noise_floor([1, 0], [[1, np.nan], [np.inf, 0]], 0.95)
    with pytest.raises(ValueError, match="confidence"):
        noise_floor([1, 0], [[1, 0], [1, 0]], 95)
