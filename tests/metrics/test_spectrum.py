"""Figures of the spectrum: known ranks, equal groups, invariances, and moments that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import ZooError
from zoo.metrics.moments import Moments
from zoo.metrics.spectrum import compute_mean_cosine, find_duplicate_components, measure_spectrum


def draw_directions(k, dim=384, seed=0):
    """Orthonormal rows (k, dim)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, k)))[0].T


def measure(vectors):
    return measure_spectrum(Moments.collect(np.asarray(vectors)))


@pytest.mark.parametrize("k", [4, 16, 64])
def test_the_rank_of_equally_strong_directions_is_their_number(k):
    coordinates = np.linalg.qr(np.random.default_rng(1).standard_normal((2000, k)))[0]
    assert measure(coordinates @ draw_directions(k)).rankme == pytest.approx(k, abs=0.05)


def test_the_rank_is_that_of_the_singular_values():
    vectors = np.random.default_rng(2).standard_normal((300, 20)) @ np.diag(np.linspace(0.1, 3, 20))
    singular = np.linalg.svd(vectors, compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    assert measure(vectors).rankme == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=1e-6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert measure(vectors).nuclear_norm == pytest.approx(np.linalg.svd(unit, compute_uv=False).sum() / 300, abs=1e-9)


def test_equal_groups_count_as_many_different_inputs_at_every_order():
    figures = measure(np.repeat(np.eye(32)[:8], 50, axis=0))
    assert [figures.vendi, figures.vendi_2, figures.vendi_inf] == pytest.approx([8, 8, 8], abs=1e-12)
    unequal = measure(np.repeat(np.eye(10)[:3], [70, 20, 10], axis=0))
    assert unequal.vendi == pytest.approx(np.exp(-sum(p * np.log(p) for p in (0.7, 0.2, 0.1))), abs=1e-12)
    assert [unequal.vendi_2, unequal.vendi_inf] == pytest.approx([1 / 0.54, 1 / 0.7], abs=1e-12)


def test_weights_are_those_of_repeated_rows():
    rows, counts = np.random.default_rng(3).standard_normal((5, 4)), np.array([3, 1, 2, 5, 4])
    weighted, repeated = Moments(4), Moments.collect(np.repeat(rows, counts, axis=0))
    weighted.add(rows, counts / counts.sum())
    assert measure_spectrum(weighted).vendi == pytest.approx(measure_spectrum(repeated).vendi, abs=1e-10)


def test_the_nuclear_norm_does_not_depend_on_the_axes():
    """The sum of the largest column norms, its shortcut in arXiv 2410.10672, reads the rotated copy as of nearly full rank."""
    rng = np.random.default_rng(4)
    along_axes = np.hstack([rng.standard_normal((2000, 16)), np.zeros((2000, 368))])
    rotated = along_axes @ draw_directions(384)
    assert measure(rotated).nuclear_norm == pytest.approx(measure(along_axes).nuclear_norm, abs=1e-9)

    def shorten(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.sort(np.linalg.norm(unit, axis=0))[::-1].sum() / len(unit)

    assert shorten(rotated) > 4 * shorten(along_axes)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.01, 100))
def test_rotation_scale_order_and_blocks_change_nothing(seed, size, scale):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((60, 12)) + rng.standard_normal(12)
    whole = measure(vectors)
    turned = scale * vectors[rng.permutation(60)] @ draw_directions(12, 12, seed)
    parts = Moments.collect(vectors[start : start + size] for start in range(0, 60, size))
    for other in (measure(turned), measure_spectrum(parts)):
        for name in (
            "rankme",
            "rankme_centred",
            "vendi",
            "vendi_2",
            "vendi_inf",
            "participation",
            "coding_rate",
            "cone",
        ):
            assert getattr(other, name) == pytest.approx(getattr(whole, name), rel=1e-7), name
        assert other.components_in_use == whole.components_in_use
        assert other.mean_cosine == pytest.approx(whole.mean_cosine, abs=1e-9)
    assert measure(vectors + 5).rankme_centred == pytest.approx(whole.rankme_centred, rel=1e-6)


def test_moments_of_parts_add_up():
    vectors = np.random.default_rng(5).standard_normal((100, 6))
    first, second = Moments.collect(vectors[:30]), Moments.collect(vectors[30:])
    first.merge(second)
    assert measure_spectrum(first) == pytest.approx(measure(vectors), rel=1e-9)


def test_equal_vectors_a_single_one_and_zeros_give_numbers():
    for vectors in (np.ones((5, 4)), np.ones((1, 4)), np.zeros((3, 4)), np.eye(4)[:1].repeat(3, 0)):
        figures = measure(vectors)
        assert np.isfinite(figures).all()
        assert figures.vendi == pytest.approx(1)
    assert measure(np.zeros((3, 4))).zero_vectors == 3


def test_the_mean_cosine_is_that_of_all_pairs():
    vectors = np.random.default_rng(6).standard_normal((30, 5)) + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = cosines[np.triu_indices(30, 1)].mean()
    assert compute_mean_cosine(Moments.collect(np.vstack([vectors, np.zeros((2, 5))]))) == pytest.approx(expected)


def test_dead_and_repeated_components_are_counted():
    vectors = np.random.default_rng(7).standard_normal((200, 6))
    vectors[:, 2], vectors[:, 4] = 0.3, -2 * vectors[:, 1] + 1
    figures = measure(vectors)
    assert (figures.dead_components, figures.duplicate_components) == (1, 1)
    assert find_duplicate_components(Moments.collect(vectors)) == [(4, 1)]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.array([[1.0, np.nan]]), "vector 0 is not finite"),
        (np.zeros((0, 3)), "there are no vectors"),
        (np.zeros(3), "give"),
        (iter([np.zeros((2, 3)), np.zeros((2, 4))]), r"do not fit: give \(n, 3\)"),
    ],
)
def test_vectors_that_cannot_be_measured_are_named(vectors, message):
    with pytest.raises(ZooError, match=message):
        Moments.collect(vectors)


def test_a_mapped_file_gives_the_same_sums_and_a_private_map_keeps_its_changes(tmp_path):
    vectors = np.random.default_rng(8).standard_normal((9000, 8)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    expected = Moments.collect(vectors)
    np.testing.assert_array_equal(Moments.collect(np.load(tmp_path / "v.npy", mmap_mode="r")).second, expected.second)
    private = np.load(tmp_path / "v.npy", mmap_mode="c")
    private[:] = 2
    assert Moments.collect(private).mean.tolist() == [2] * 8
    assert (private == 2).all()
