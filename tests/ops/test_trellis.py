"""Trellis-coded quantisation against all paths, against the nearest levels, and row by row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from zoo.ops import scalar_quantisers, trellis


def draw(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compute_error(values, numbers, levels):
    return (values - trellis.get_levels(numbers, levels)).square().sum(1)


def test_no_other_numbers_lose_less():
    widths = np.array([1, 2, 1, 1, 2, 1, 1, 1])
    levels = trellis.fit_levels(draw(2000, len(widths)), widths, rounds=3)
    values = draw(6, len(widths), seed=1)
    every = torch.tensor(list(itertools.product(*(range(1 << width) for width in widths))))
    errors = torch.stack([compute_error(row.expand(len(every), -1), every, levels) for row in values])
    found = compute_error(values, trellis.find_numbers(values, levels), levels)
    torch.testing.assert_close(found, errors.amin(1), rtol=1e-5, atol=0)


def test_paths_longer_than_the_memory_lose_no_more_than_drawn_numbers():
    widths = np.full(40, 1)
    levels = trellis.fit_levels(draw(1000, 40), widths, rounds=3)
    values = draw(5, 40, seed=1)
    found = trellis.find_numbers(values, levels)
    best = compute_error(values, found, levels)
    for column in range(40):  # one number otherwise changes the levels of six later ones as well
        other = found.clone()
        other[:, column] ^= 1
        assert (compute_error(values, other, levels) >= best * (1 - 1e-6)).all()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_normal_values_lose_what_the_table_says_and_less_than_with_nearest_levels(width):
    widths = np.full(100, width)
    levels = trellis.fit_levels(draw(4000, 100), widths, rounds=8)
    values = draw(500, 100, seed=1)
    numbers = trellis.find_numbers(values, levels)
    assert 0 <= numbers.min() <= numbers.max() < 1 << width
    error = compute_error(values, numbers, levels).mean() / 100
    assert float(error) == pytest.approx(trellis.NORMAL_ERRORS[width], rel=0.08)
    assert error < 0.85 * scalar_quantisers.NORMAL_ERRORS[width]


@pytest.mark.parametrize("width", [5, 6])
def test_many_levels_need_more_rows_to_lose_what_the_table_says(width):
    levels = trellis.fit_levels(draw(16_000, 100), np.full(100, width), rounds=8)
    values = draw(500, 100, seed=1)
    error = compute_error(values, trellis.find_numbers(values, levels), levels).mean() / 100
    assert float(error) == pytest.approx(trellis.NORMAL_ERRORS[width], rel=0.08)


def test_a_row_has_the_numbers_that_it_has_alone():
    widths = np.array([3, 1, 2] * 20)
    values = draw(trellis.BLOCK + 9, 60)
    levels = trellis.fit_levels(values, widths, rounds=2)
    numbers = trellis.find_numbers(values, levels)
    for row in (0, 100, trellis.BLOCK, trellis.BLOCK + 8):
        assert torch.equal(trellis.find_numbers(values[row : row + 1], levels)[0], numbers[row])
    assert trellis.find_numbers(values[:0], levels).shape == (0, 60)


def test_two_branches_of_a_state_never_have_neighbouring_subsets():
    # Ungerboeck's rule: branches that leave a state, or reach one, choose between subsets that lie two levels apart.
    subsets = trellis._SUBSETS
    leaving = subsets.view(trellis.STATES, 2)
    reaching = subsets.view(2, trellis.STATES).T
    for pairs in (leaving, reaching):
        assert ((pairs[:, 0] - pairs[:, 1]).abs() == 2).all()


def test_the_gradient_reaches_values_and_levels():
    widths = np.array([2, 1, 3])
    levels = trellis.fit_levels(draw(500, 3), widths, rounds=2).requires_grad_()
    values = draw(20, 3, seed=2).clamp(-1, 1).requires_grad_()
    rounded = trellis.round_straight_through(values, levels)
    numbers = trellis.find_numbers(values.detach(), levels.detach())
    assert torch.equal(rounded.detach(), trellis.get_levels(numbers, levels.detach()))
    rounded.sum().backward()
    assert torch.equal(values.grad, torch.ones_like(values))
    assert levels.grad.sum() == 60  # each of 60 values is one level
