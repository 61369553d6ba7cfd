"""Clipping: torch's own, taken in the optimizer's step."""

import copy

import pytest
import torch
from torch import nn

from stages.training.clipping import clip


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_a_step_is_that_of_a_clipped_gradient(most: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3, bias=False))
    theirs = copy.deepcopy(ours)
    optimizers = [torch.optim.AdamW(one.parameters(), fused=True) for one in (ours, theirs)]
    for _ in range(3):
        given = torch.randn(11, 7)
        for model in (ours, theirs):
            model.zero_grad()
            (model(given) * 9).square().sum().backward()
        found = clip(ours.parameters(), optimizers[0], most)
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), most)
        torch.testing.assert_close(found, expected)
        for optimizer in optimizers:
            optimizer.step()
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other)
            torch.testing.assert_close(one.grad, other.grad)


def test_the_norm_of_many_values_keeps_its_digits() -> None:
    torch.manual_seed(0)
    many = nn.Parameter(torch.empty(2**24))
    many.grad = torch.randn_like(many)
    found = clip([many], torch.optim.AdamW([many], fused=True), 1.0)
    expected = many.grad.double().square().sum().sqrt().float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_a_parameter_without_a_gradient_is_left_out() -> None:
    used, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.tensor([3.0, 4.0])
    assert clip([used, frozen], torch.optim.AdamW([used], fused=True), 1.0) == 5.0
