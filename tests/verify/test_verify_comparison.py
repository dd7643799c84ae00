"""Distances are those of the paper's formula, and only noise of all inputs is the rounding of an arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.verify.comparison import PRECISIONS, compare, correlate_structure, find_order, find_rank, to_directions

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((32, 64))


def add_noise(vectors, size):
    """Add noise of a given distance to the directions."""
    noise = to_directions(RNG.standard_normal(vectors.shape)) * size
    return to_directions(vectors) + noise


def test_distance_and_cosine_belong_together():
    fit = compare(VECTORS, VECTORS[::-1])
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(VECTORS, VECTORS[::-1], strict=True)]
    np.testing.assert_allclose(fit.cosines, cosines, atol=1e-12)
    assert fit.worst == fit.distances.max()


def test_the_norm_is_no_part_of_a_direction_and_zeros_stay():
    assert compare(VECTORS * 7, VECTORS).worst < 1e-12
    assert np.array_equal(to_directions(np.zeros((2, 3))), np.zeros((2, 3)))
    assert compare(np.zeros((2, 3)), np.zeros((2, 3))).precision == "fp32"
    assert compare(np.zeros((2, 64)), VECTORS[:2]).precision is None


@pytest.mark.parametrize(
    ("size", "name"), [(1e-6, "fp32"), (1e-3, "fp16"), (0.01, "bf16"), (0.1, "int8"), (0.25, None), (1.4, None)]
)
def test_the_size_of_the_noise_names_the_arithmetic(size, name):
    assert compare(add_noise(VECTORS, size), VECTORS).precision == name


@pytest.mark.parametrize("size", [2e-3, 0.02, 0.2])
def test_a_few_vectors_that_differ_while_the_others_are_exact_are_no_rounding(size):
    vectors = to_directions(VECTORS)
    vectors[:3] = add_noise(vectors[:3], size)
    assert compare(vectors, VECTORS).precision is None


def test_both_bounds_hold():
    for place, precision in enumerate(PRECISIONS):
        distances = np.full(32, precision.mean)
        assert find_rank(distances) == place
        assert find_rank(np.where(np.arange(32) == 0, precision.worst * 1.01, distances)) > place
        assert find_rank(distances * 1.01) > place


def test_vectors_in_another_order_are_found():
    order = RNG.permutation(32)
    places = find_order(VECTORS[order], VECTORS)
    assert places is not None
    np.testing.assert_array_equal(VECTORS[order][places], VECTORS)
    assert find_order(VECTORS, VECTORS) is None, "they are in order"
    assert find_order(RNG.standard_normal((32, 64)), VECTORS) is None


def test_a_rotation_keeps_the_structure_and_another_space_does_not():
    rotation = np.linalg.qr(RNG.standard_normal((64, 64)))[0]
    assert correlate_structure(VECTORS @ rotation, VECTORS) == pytest.approx(1)
    assert abs(correlate_structure(RNG.standard_normal((32, 16)), VECTORS)) < 0.3
    assert correlate_structure(np.ones((32, 4)), VECTORS) == 0
