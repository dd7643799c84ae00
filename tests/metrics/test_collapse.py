"""The collapse of vectors is measured by their mean cosine and their effective rank."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.metrics.collapse import measure_collapse


def test_the_mean_cosine_is_that_of_all_pairs_of_different_vectors():
    vectors = np.random.default_rng(0).normal(size=(30, 5)) + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(30, dtype=bool)]
    assert measure_collapse(vectors).mean_cosine == pytest.approx(cosines.mean())


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_effective_rank_is_the_number_of_equally_strong_directions(rank):
    """Opposite pairs along orthogonal axes have a mean of zero and `rank` equal singular values."""
    axes = np.eye(16)[:rank]
    assert measure_collapse(np.concatenate([axes, -axes])).effective_rank == pytest.approx(rank)


def test_equal_vectors_have_no_rank_whatever_their_length():
    vectors = np.outer([1.0, 2.0, 5.0], [0.6, 0.8])
    assert measure_collapse(vectors) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert measure_collapse(np.zeros((4, 3))).effective_rank == 0
