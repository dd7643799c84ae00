"""Allocation of bits against all allocations, levels against Max's table, and rotations that lose less."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from zoo.ops import scalar_quantisers as sq


def compute_error(variances, widths):
    return sum(variance * sq.NORMAL_ERRORS[width] for variance, width in zip(variances, widths, strict=True))


@pytest.mark.parametrize("total", [0, 1, 5, 8])
def test_no_allocation_has_a_smaller_error(total):
    variances = [3.0, 1.5, 0.4, 0.05]
    widths = sq.allocate_bits(variances, total)
    assert widths.sum() == total
    others = [w for w in itertools.product(range(sq.LARGEST_WIDTH + 1), repeat=4) if sum(w) == total]
    assert compute_error(variances, widths) == pytest.approx(min(compute_error(variances, w) for w in others))


def test_equal_variances_share_the_bits_and_the_first_get_what_is_left():
    assert sq.allocate_bits([1.0] * 4, 8).tolist() == [2, 2, 2, 2]
    assert sq.allocate_bits([1.0] * 4, 6).tolist() == [2, 2, 1, 1]
    assert sq.allocate_bits([1.0, 0.0], 2 * sq.LARGEST_WIDTH).tolist() == [sq.LARGEST_WIDTH] * 2
    with pytest.raises(ValueError, match="not 13"):
        sq.allocate_bits([1.0, 1.0], 13)


def test_levels_of_a_normal_variable_have_the_errors_of_the_table():
    widths = np.array([1, 2, 3, 4])
    quantiles = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    values = torch.special.ndtri(quantiles)[:, None].expand(-1, 4)
    levels = sq.fit_levels(values, widths, rounds=100)
    rounded = sq.get_levels(sq.find_levels(values, levels), levels)
    errors = (rounded - values).square().mean(0)
    np.testing.assert_allclose(errors, sq.NORMAL_ERRORS[1:5], rtol=0.01)
    assert levels.isfinite().sum(1).tolist() == [2, 4, 8, 16]


def test_a_component_has_the_levels_that_it_has_alone():
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.tensor(
        [1, 5, 9]
    )
    widths = np.array([3, 1, 2])
    levels = sq.fit_levels(values, widths)
    for j, width in enumerate(widths):
        alone = sq.fit_levels(values[:, j : j + 1], widths[j : j + 1])
        torch.testing.assert_close(levels[j, : 1 << width], alone[0])
        assert (levels[j, : 1 << width].diff() > 0).all()


def test_a_value_between_two_levels_takes_the_lower_one():
    levels = torch.tensor([[-1.0, 1.0, torch.inf, torch.inf], [-3.0, -1.0, 1.0, 3.0]])
    values = torch.tensor([[0.0, 0.0], [-0.0, 2.0], [1e-9, 99.0], [-5.0, -99.0]])
    assert sq.find_levels(values, levels).tolist() == [[0, 1], [0, 2], [1, 3], [0, 0]]


def test_the_gradient_reaches_values_inside_and_the_chosen_levels():
    levels = torch.tensor([[-3.0, -1.0, 1.0, 3.0], [-1.0, 1.0, torch.inf, torch.inf]], requires_grad=True)
    values = torch.tensor([[0.4, 1.9], [9.0, 2.1]], requires_grad=True)
    rounded = sq.round_straight_through(values, levels)
    assert rounded.tolist() == [[1, 1], [3, 1]]
    (rounded * torch.tensor([[2.0, 3.0], [4.0, 5.0]])).sum().backward()
    assert values.grad.tolist() == [[2, 3], [0, 0]]
    assert levels.grad.tolist() == [[0, 0, 2, 4], [0, 8, 0, 0]]


def test_a_fitted_rotation_loses_less_and_is_orthonormal():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(2000, 12, generator=generator, dtype=torch.float64) ** 3
    rows = (rows - rows.mean(0)) @ torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    widths = np.array([2] * 4 + [1] * 4)
    axes = sq.rotate_equal_widths(torch.eye(12, dtype=torch.float64)[:, :8], widths, seed=3)

    def compute_loss(columns):
        projections = rows @ columns
        levels = sq.fit_levels(projections, widths)
        rounded = sq.get_levels(sq.find_levels(projections, levels), levels)
        return (rows - rounded @ columns.T).square().sum(1).mean()

    fitted = sq.fit_rotation(rows, axes, widths, rounds=10)
    torch.testing.assert_close(fitted.T @ fitted, torch.eye(8, dtype=torch.float64))
    assert compute_loss(fitted) < 0.95 * compute_loss(axes)


def test_components_of_one_width_are_mixed_with_each_other_only():
    axes = torch.eye(5, dtype=torch.float64)
    rotated = sq.rotate_equal_widths(axes, np.array([2, 2, 2, 1, 1]), seed=0)
    assert not rotated[3:, :3].any()
    assert not rotated[:3, 3:].any()
    torch.testing.assert_close(rotated.T @ rotated, axes)
    assert (rotated[:3, :3].abs() > 1e-3).all()
