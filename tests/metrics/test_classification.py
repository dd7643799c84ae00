"""Measures of a classifier against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from zoo.metrics import classification

DRAW = np.random.default_rng(0)


def test_top_k_confusion_and_auroc_are_those_of_scikit_learn():
    scores, gold = DRAW.standard_normal((200, 7)), DRAW.integers(0, 7, 200)
    for k in (1, 3, 5):
        assert classification.compute_top_k_accuracy(scores, gold, k) == pytest.approx(
            top_k_accuracy_score(gold, scores, k=k)
        )
    found = classification.count_confusions(scores.argmax(1), gold, 7)
    np.testing.assert_array_equal(found, confusion_matrix(gold, scores.argmax(1)))
    known, unknown = DRAW.integers(0, 9, 50) + 2.0, DRAW.integers(0, 9, 70).astype(float)  # with ties
    told = np.concatenate([np.ones(50), np.zeros(70)])
    assert classification.compute_auroc(known, unknown) == pytest.approx(
        roc_auc_score(told, np.concatenate([known, unknown]))
    )


def test_neighbours_are_those_of_scikit_learn_with_the_same_weights():
    vectors, known = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (
        DRAW.standard_normal((2100, 6)), DRAW.standard_normal((300, 6))
    ))  # fmt: skip
    gold, known_gold = DRAW.integers(0, 4, 2100), DRAW.integers(0, 4, 300)
    theirs = KNeighborsClassifier(9, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07))
    expected = theirs.fit(known, known_gold).score(vectors, gold)
    assert classification.compute_knn_accuracy(vectors, gold, known, known_gold, k=9) == pytest.approx(expected)


def test_a_classifier_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    gold = np.array([0] * 8 + [1] * 2)
    sure = np.tile([0.8, 0.2], (10, 1))
    error, bins = classification.compute_calibration_error(sure, gold)
    assert error == pytest.approx(0)
    assert bins == [[pytest.approx(0.8), pytest.approx(0.8), 10]]
    assert classification.compute_calibration_error(np.tile([1.0, 0.0], (10, 1)), gold)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("scale", [0.3, 1.0, 25.0])
def test_the_fitted_scale_finds_the_one_that_drew_the_classes(scale):
    scores = DRAW.standard_normal((20_000, 5)) / scale
    chances = classification.compute_softmax(scores, scale)
    gold = (chances.cumsum(1) > DRAW.random((20_000, 1))).argmax(1)
    assert classification.fit_scale(scores, gold) == pytest.approx(scale, rel=0.05)


def test_collapse_is_total_where_every_row_is_its_vector_and_null_where_classes_mean_nothing():
    gold = DRAW.integers(0, 4, 4000)
    found = classification.compute_neural_collapse(np.eye(4)[gold], gold, np.eye(4))
    assert found == {"vector_angle": pytest.approx(0, abs=1e-4), "within_spread": pytest.approx(0, abs=1e-12)}
    noise = DRAW.standard_normal((4000, 4))
    assert classification.compute_neural_collapse(noise, gold, np.eye(4))["within_spread"] > 0.99
    turned = classification.compute_neural_collapse(np.eye(4)[gold], gold, np.eye(4)[[1, 2, 3, 0]])
    assert turned["vector_angle"] == pytest.approx(90)


def test_twenty_neighbours_vote_by_default_and_fewer_if_there_are_fewer():
    vectors, known = (draw / np.linalg.norm(draw, axis=1, keepdims=True) for draw in DRAW.standard_normal((2, 150, 4)))
    labels, known_labels = DRAW.integers(0, 3, 150), DRAW.integers(0, 5, 150)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07))
    expected = theirs.fit(known, known_labels).score(vectors, labels)
    assert classification.compute_knn_accuracy(vectors, labels, known, known_labels) == pytest.approx(expected)
    few = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp(-distance / 2))
    expected = few.fit(known[:7], known_labels[:7]).score(vectors, labels)
    found = classification.compute_knn_accuracy(vectors, labels, known[:7], known_labels[:7], scale=0.5)
    assert found == pytest.approx(expected)


def test_a_softmax_is_that_of_the_scaled_scores_also_of_large_float32_scores():
    scores = np.array([[1.0, 2.0, 4.0], [3000.0, 3000.0, 0.0]], dtype=np.float32)
    probabilities = classification.compute_softmax(scores, 0.5)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities[0], np.exp([0.5, 1, 2]) / np.exp([0.5, 1, 2]).sum())
    np.testing.assert_allclose(probabilities[1], [0.5, 0.5, 0])


def test_a_scale_is_fitted_to_scores_that_are_all_equal():
    assert np.isfinite(classification.fit_scale(np.zeros((4, 3)), np.array([0, 1, 2, 0])))


def test_calibration_has_fifteen_equal_bins_of_which_the_last_includes_1():
    confidences = np.array([0.5, 0.52, 0.54, 0.93, 0.94, 1.0])
    probabilities, labels = np.stack([confidences, 1 - confidences], axis=1), np.array([0, 1, 0, 0, 1, 0])
    error, bins = classification.compute_calibration_error(probabilities, labels)
    assert bins == [
        [pytest.approx(0.51), 0.5, 2],
        [pytest.approx(0.54), 1.0, 1],
        [pytest.approx(0.93), 1.0, 1],
        [pytest.approx(0.97), 0.5, 2],
    ]
    assert error == pytest.approx((2 * 0.01 + 0.46 + 0.07 + 2 * 0.47) / 6)


def test_neural_collapse_agrees_with_its_definition_also_without_rows_of_a_class():
    vectors, targets = DRAW.standard_normal((60, 3)) + 1, DRAW.standard_normal((5, 3))
    labels = DRAW.choice([0, 2, 4], 60)
    angles, within = [], 0.0
    for label in (0, 2, 4):
        rows = vectors[labels == label]
        mean, target = rows.mean(0), targets[label]
        angles.append(np.degrees(np.arccos(mean @ target / np.linalg.norm(mean) / np.linalg.norm(target))))
        within += len(rows) * rows.var(0).sum()
    found = classification.compute_neural_collapse(vectors, labels, targets)
    expected = {"vector_angle": np.mean(angles), "within_spread": within / (60 * vectors.var(0).sum())}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}
    still = classification.compute_neural_collapse(np.zeros((4, 3)), np.zeros(4, int), targets)
    assert still == {"vector_angle": pytest.approx(90), "within_spread": 0}


def test_every_row_is_its_own_nearest_neighbour():
    vectors = np.random.default_rng(0).standard_normal((30, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(30) % 7
    assert classification.compute_knn_accuracy(vectors, labels, vectors, labels, k=1) == 1.0
    assert classification.compute_knn_accuracy(vectors[:1], labels[:1], vectors, labels, k=1) == 1.0


@pytest.mark.parametrize(("sign", "angle"), [(1, 0.0), (-1, 180.0)])
def test_a_cosine_that_rounding_puts_beyond_one_is_an_angle(sign, angle):
    targets = np.random.default_rng(3).standard_normal((400, 3))
    labels = np.arange(400)
    figures = classification.compute_neural_collapse(sign * targets, labels, targets)
    assert figures["vector_angle"] == pytest.approx(angle, abs=1e-4)
