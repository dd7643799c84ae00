"""Simplex and orthogonal frames have no distance from themselves, and the theorem of unbalanced classes holds to four digits."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.metrics.neural_collapse import (
    LARGEST,
    collect_classes,
    find_nearest_means,
    measure_collapse,
    measure_head_alignment,
)

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(10), 50)
SIMPLEX = np.eye(10) - 0.1
ROTATION = np.linalg.qr(RNG.normal(size=(16, 16)))[0][:10]


def measure(means, labels=LABELS, noise=0.0):
    vectors = means[labels] + noise * RNG.normal(size=(len(labels), means.shape[1]))
    return measure_collapse(collect_classes(vectors, labels))


def test_every_figure_of_a_simplex_is_zero_in_any_rotation_and_scale():
    for means in (SIMPLEX, 7 * SIMPLEX @ ROTATION):
        figures = measure(means)._asdict()
        assert figures.pop("orthogonality") == pytest.approx(1 / 9)
        assert list(figures.values()) == pytest.approx([0] * len(figures), abs=1e-12)


def test_every_figure_of_an_orthogonal_frame_is_zero():
    assert list(measure(3 * ROTATION)) == pytest.approx([0] * 7, abs=1e-12)


def test_each_figure_sees_its_own_defect():
    stretched = measure(SIMPLEX * np.linspace(1, 2, 10)[:, None])
    assert stretched.simplex_norms > 0.1
    turned = SIMPLEX.copy()
    turned[0] = turned[1] + 0.1 * turned[0]
    assert measure(turned).simplex_angles > 0.05
    assert measure(ROTATION + ROTATION.mean(0)).orthogonality > 0.1
    spread = measure(ROTATION, noise=0.1)
    # Variance 16 · .01 at a squared distance of 2, and at a variance of the means of .9.
    assert spread.cdnv == pytest.approx(0.16 / 2, rel=0.1)
    assert spread.variance_ratio == pytest.approx(0.16 / 0.9, rel=0.1)


def test_the_variance_by_distance_is_that_of_a_plain_loop_and_has_a_largest_value():
    vectors = RNG.normal(size=(10, 6))[LABELS] + RNG.normal(size=(500, 6))
    groups = [vectors[number == LABELS] for number in range(10)]
    variances = [np.square(rows - rows.mean(0)).sum(1).mean() for rows in groups]
    values = [
        (variances[i] + variances[j]) / (2 * np.square(groups[i].mean(0) - groups[j].mean(0)).sum())
        for i in range(10)
        for j in range(i)
    ]
    assert measure_collapse(collect_classes(vectors, LABELS)).cdnv == pytest.approx(np.mean(values))
    assert measure_collapse(collect_classes(np.ones((500, 3)), LABELS)).cdnv == LARGEST


def test_the_theorem_of_unbalanced_classes_holds_to_four_digits():
    counts, decay = np.array([4, 8, 20]), 2e-3
    rows, labels = counts.sum(), np.repeat(np.arange(3), counts)
    targets = np.eye(3)[:, labels]
    head, vectors = RNG.normal(size=(3, 6)), RNG.normal(size=(6, rows))
    for _ in range(4000):  # alternating least squares of the regularised squared error
        head = targets @ vectors.T @ np.linalg.inv(vectors @ vectors.T + rows * decay * np.eye(6))
        vectors = np.linalg.solve(head.T @ head + rows * decay * np.eye(6), head.T @ targets)
    roots = np.sqrt(counts / (rows * rows * decay * decay)) - 1
    lengths = rows * decay * roots
    np.testing.assert_allclose(head @ head.T, np.diag(lengths), atol=5e-5)
    classes = collect_classes(vectors.T, labels)
    expected = lengths / (lengths + rows * decay) ** 2
    np.testing.assert_allclose(classes.means @ classes.means.T, np.diag(expected), atol=5e-5)
    ratios = np.square(head).sum(1) / np.square(classes.means).sum(1)
    np.testing.assert_allclose(ratios, counts, rtol=5e-4)
    figures = measure_collapse(classes)
    assert (figures.orthogonality, figures.cdnv) == pytest.approx((0, 0), abs=5e-5)
    assert figures.length_by_size == -1, "the longest mean is that of the smallest class"


def test_a_head_that_points_where_the_means_do_is_aligned():
    classes = collect_classes((SIMPLEX @ ROTATION)[LABELS], LABELS)
    assert measure_head_alignment(classes, 4 * SIMPLEX @ ROTATION) == pytest.approx(0, abs=1e-12)
    assert measure_head_alignment(classes, np.roll(SIMPLEX @ ROTATION, 1, axis=0)) > 1
    assert (find_nearest_means((SIMPLEX @ ROTATION)[LABELS], classes) == LABELS).all()


def test_classes_of_one_row_are_counted_and_left_out():
    labels = ["a", "a", "b", "b", "c"]
    classes = collect_classes(RNG.normal(size=(5, 3)), labels)
    assert (classes.names, classes.left_out) == (("a", "b"), 1)
    with pytest.raises(ZooError, match="1 of 3 classes have two rows or more"):
        collect_classes(RNG.normal(size=(4, 3)), ["a", "a", "b", "c"])
