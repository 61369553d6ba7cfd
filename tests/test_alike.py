"""When two ways of computing count as the same."""

import torch

from stages.models.alike import alike


def test_rounding_of_large_states_is_no_difference() -> None:
    # What SmolLM2-135M's states differ by on a processor with AMX, whether padding is read or not.
    expected = torch.tensor([[44.9, 0.01], [-3.0, 0.5]])
    assert alike(expected + 3e-4, expected)
    assert not alike(expected + 0.1, expected)


def test_small_states_are_held_to_their_own_size() -> None:
    expected = torch.tensor([2e-3, -1e-3])
    assert alike(expected + 1e-7, expected)
    assert not alike(expected + 1e-4, expected)


def test_what_is_not_finite_has_to_be_so_in_both() -> None:
    expected = torch.tensor([1.0, torch.nan])
    assert alike(expected.clone(), expected)
    assert not alike(torch.tensor([1.0, 2.0]), expected)
    assert not alike(torch.tensor([torch.inf, torch.nan]), expected)
