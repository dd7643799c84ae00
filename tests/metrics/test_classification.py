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
