"""Dropout of 16 bits a value: its rate, what is left, and its gradient."""

import pytest
import torch
from torch import nn

from stages.models.dropout import Dropout, draw_cheaply, factors, kept


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.937])
def test_each_of_the_values_of_a_draw_is_dropped_at_the_rate(rate: float) -> None:
    torch.manual_seed(0)
    dropped = ~kept(torch.empty(40_000, 4), rate)
    spread = (rate * (1 - rate) / len(dropped)) ** 0.5
    assert dropped.double().mean(0).tolist() == pytest.approx([rate] * 4, abs=4 * spread)
    # Nor does one tell of its neighbour.
    both = (dropped[:, :-1] & dropped[:, 1:]).double().mean(0)
    assert both.tolist() == pytest.approx([rate**2] * 3, abs=4 * spread)


def test_what_is_left_has_the_expectation_of_all() -> None:
    keep = kept(torch.empty(7, 5, 3), 0.3)
    dropped = round(0.3 * 2**16) / 2**16
    expected = keep.double() / (1 - dropped)
    torch.testing.assert_close(factors(keep, 0.3, torch.float64), expected)


def test_the_gradient_is_of_what_was_left() -> None:
    layer = Dropout(0.4)
    given = torch.randn(50, 9, requires_grad=True)
    found = layer(given)
    (gradient,) = torch.autograd.grad(found, given, torch.ones_like(found))
    torch.testing.assert_close(found, given * gradient)
    left = gradient[gradient != 0]
    assert 0 < len(left) < given.numel()
    torch.testing.assert_close(left, torch.full_like(left, 1 / 0.6), rtol=1e-4, atol=0)


def test_a_seed_gives_the_same_draw() -> None:
    given, found = torch.ones(64, 33), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(Dropout(0.5)(given))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0.0)])
def test_nothing_is_dropped_in_evaluation_or_at_a_rate_of_0(layer: nn.Module) -> None:
    given = torch.ones(3)
    assert layer(given) is given


def test_at_a_rate_of_1_nothing_is_left() -> None:
    assert not Dropout(1.0)(torch.ones(100_000)).any()


def test_a_body_keeps_its_rates_and_modes() -> None:
    layers = nn.Dropout(0.2), nn.Dropout(0.3).eval(), nn.Dropout1d(0.4)
    draw_cheaply(nn.Sequential(layers[0], nn.Sequential(*layers[1:])))
    assert [type(one) for one in layers] == [Dropout, Dropout, nn.Dropout1d]
    assert [one.p for one in layers] == [0.2, 0.3, 0.4]
    assert [one.training for one in layers] == [True, False, True]
