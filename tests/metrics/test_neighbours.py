"""Figures of neighbours: known dimensions, duplicates, and invariances."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.metrics.neighbours import draw_rows, find_distinct, measure_neighbours

skdim = pytest.importorskip("skdim")


def draw_sphere(d, count=2000, seed=0):
    """Points (count, 64) on a sphere with a surface of `d` dimensions."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, d + 1))
    return points @ np.linalg.qr(rng.standard_normal((64, d + 1)))[0].T


@pytest.mark.parametrize("d", [2, 5, 10])
def test_the_dimension_of_a_sphere_is_found(d):
    found = measure_neighbours(draw_sphere(d))
    assert found.twonn == pytest.approx(d, rel=0.12)
    assert found.mle == pytest.approx(d, rel=0.12)
    assert found.gride[0][1] == pytest.approx(d, rel=0.12)
    assert [scale for scale, _, _ in found.gride[:4]] == [1, 2, 4, 8]


def test_the_dimension_is_that_of_the_library_on_distinct_unit_vectors():
    vectors = draw_sphere(5, 500)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert measure_neighbours(3 * vectors).twonn == pytest.approx(skdim.id.TwoNN().fit(unit).dimension_, rel=1e-3)


def test_repeated_vectors_change_nothing_and_are_counted():
    vectors = draw_sphere(5, 600)
    plain, repeated = measure_neighbours(vectors), measure_neighbours(np.vstack([vectors, 2 * vectors[:200]]))
    assert (repeated.drawn, repeated.distinct) == (800, 600)
    assert repeated.twonn == pytest.approx(plain.twonn, rel=1e-6)
    assert find_distinct(np.vstack([vectors[:3], vectors[1:2], np.zeros((1, 64))])).tolist() == [0, 1, 2]


def test_noise_raises_the_dimension():
    vectors = draw_sphere(5, 1000)
    noise = np.random.default_rng(1).standard_normal(vectors.shape)
    dimensions = [measure_neighbours(vectors + scale * noise).twonn for scale in (0, 0.1, 0.5)]
    assert dimensions == sorted(dimensions)
    assert dimensions[2] > 3 * dimensions[0]


def test_near_pairs_are_named_by_their_rows():
    vectors = draw_sphere(20, 300)
    vectors[7] = vectors[200] + 1e-3
    ((first, second, cosine),) = measure_neighbours(vectors).near_pairs
    assert (first, second) == (7, 200)
    assert 0.999 < cosine < 1


def test_too_few_distinct_vectors_are_refused():
    with pytest.raises(ZooError, match="1 of 500 vectors are distinct"):
        measure_neighbours(np.ones((500, 4)))


def test_a_draw_depends_on_the_seed_alone():
    assert draw_rows(10, 20, 1).tolist() == list(range(10))
    assert draw_rows(1000, 20, 1).tolist() == draw_rows(1000, 20, 1).tolist() != draw_rows(1000, 20, 2).tolist()
