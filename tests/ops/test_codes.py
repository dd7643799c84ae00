"""Packed binary codes against bits counted one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.ops import codes


def test_only_components_above_0_are_ones_and_the_last_byte_ends_with_zeros():
    vectors = [[0.5, -0.5, 0.0, np.nan, 1e-9, -0.0, 2.0, 0.0, 3.0, 0.0], [0.0] * 10]
    assert codes.pack(vectors).tolist() == [[0b10001010, 0b10000000], [0, 0]]
    assert codes.pack(np.zeros((0, 9))).shape == (0, 2)


def test_distances_of_long_codes_do_not_overflow():
    ones, zeros = np.full((1, 40), 255, np.uint8), np.zeros((2, 40), np.uint8)
    distances = codes.compute_hamming_distances(ones, zeros)
    assert distances.tolist() == [[320, 320]]
    assert distances.dtype == np.int32


def test_the_gradient_at_0_passes_unchanged_and_far_from_0_vanishes():
    logits, gradient = torch.tensor([0.0, 1e3, -1e3]), torch.tensor([2.0, 2.0, 2.0])
    assert codes.compute_straight_through_gradient(logits, gradient, 0.5).tolist() == [2, 0, 0]


@pytest.mark.parametrize("bits", [3, 5])
def test_iterative_quantisation_finds_the_corners_of_a_rotated_cube(bits):
    """Rows at the corners of a cube lose nothing by rounding once the rotation is right."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.sign(torch.randn(400, bits, generator=generator, dtype=torch.float64))
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    rows = corners @ basis[:bits] + 0.05 * torch.randn(400, 8, generator=generator, dtype=torch.float64)
    columns = codes.fit_iterative_quantisation(rows, bits, seed=0)
    torch.testing.assert_close(columns.T @ columns, torch.eye(bits, dtype=torch.float64))
    assert ((rows @ columns).abs() - 1).abs().max() < 0.3
    assert torch.equal(columns, codes.fit_iterative_quantisation(rows, bits, seed=0))
    assert not torch.equal(columns, codes.fit_iterative_quantisation(rows, bits, seed=0, rounds=0))
    assert not torch.equal(columns, codes.fit_iterative_quantisation(rows, bits, seed=1))


def test_numbers_of_one_bit_are_packed_as_signs_are():
    vectors = np.random.default_rng(0).standard_normal((7, 19))
    packed = codes.pack_numbers(vectors > 0, np.ones(19, np.int64))
    assert np.array_equal(packed, codes.pack(vectors))


def test_numbers_of_many_widths_follow_each_other_without_gaps():
    widths = np.array([3, 1, 8, 2, 5])
    assert codes.pack_numbers([[0b101, 0b0, 0b11110000, 0b01, 0b10011]], widths).tolist() == [
        [0b10101111, 0b00000110, 0b01100000]
    ]
    numbers = np.random.default_rng(1).integers(0, 1 << widths, (50, 5))
    packed = codes.pack_numbers(numbers, widths)
    assert packed.shape == (50, 3)
    assert np.array_equal(codes.unpack_numbers(packed, widths), numbers)
    assert codes.unpack_numbers(packed[:0], widths).shape == (0, 5)
