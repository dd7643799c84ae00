"""Measures of a classifier against closed forms and scikit-learn; changes of images; the moving average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, roc_auc_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from zoo.families.equiangular import augmentation
from zoo.families.equiangular.ema import Average
from zoo.metrics import classification

RNG = np.random.default_rng(0)


def test_top_k_accuracy_confusions_and_auroc_equal_scikit_learn():
    scores, gold = RNG.standard_normal((200, 7)), RNG.integers(0, 7, 200)
    for k in (1, 3, 5):
        assert classification.compute_top_k_accuracy(scores, gold, k) == pytest.approx(
            top_k_accuracy_score(gold, scores, k=k)
        )
    confusions = classification.count_confusions(scores.argmax(1), gold, 7)
    np.testing.assert_array_equal(confusions, confusion_matrix(gold, scores.argmax(1)))
    known, unknown = RNG.integers(0, 9, 50) + 2.0, RNG.integers(0, 9, 70).astype(float)  # with ties
    is_known = np.concatenate([np.ones(50), np.zeros(70)])
    assert classification.compute_auroc(known, unknown) == pytest.approx(
        roc_auc_score(is_known, np.concatenate([known, unknown]))
    )


def test_knn_accuracy_equals_scikit_learn_with_the_same_weights():
    vectors, train_vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (
        RNG.standard_normal((2100, 6)), RNG.standard_normal((300, 6))
    ))  # fmt: skip
    labels, train_labels = RNG.integers(0, 4, 2100), RNG.integers(0, 4, 300)
    classifier = KNeighborsClassifier(9, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07))
    expected = classifier.fit(train_vectors, train_labels).score(vectors, labels)
    assert classification.compute_knn_accuracy(vectors, labels, train_vectors, train_labels, k=9) == pytest.approx(
        expected
    )


def test_a_classifier_whose_confidence_equals_its_accuracy_has_no_calibration_error():
    gold = np.array([0] * 8 + [1] * 2)
    probabilities = np.tile([0.8, 0.2], (10, 1))
    error, bins = classification.compute_calibration_error(probabilities, gold)
    assert error == pytest.approx(0)
    assert bins == [[pytest.approx(0.8), pytest.approx(0.8), 10]]
    assert classification.compute_calibration_error(np.tile([1.0, 0.0], (10, 1)), gold)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("scale", [0.3, 1.0, 25.0])
def test_the_fitted_scale_is_the_one_that_the_labels_were_drawn_with(scale):
    scores = RNG.standard_normal((20_000, 5)) / scale
    probabilities = classification.compute_softmax(scores, scale)
    gold = (probabilities.cumsum(1) > RNG.random((20_000, 1))).argmax(1)
    assert classification.fit_scale(scores, gold) == pytest.approx(scale, rel=0.05)


def test_collapse_is_complete_if_every_row_is_its_class_vector_and_absent_in_noise():
    gold = RNG.integers(0, 4, 4000)
    collapse = classification.compute_neural_collapse(np.eye(4)[gold], gold, np.eye(4))
    assert collapse == {"vector_angle": pytest.approx(0, abs=1e-4), "within_spread": pytest.approx(0, abs=1e-12)}
    noise = RNG.standard_normal((4000, 4))
    assert classification.compute_neural_collapse(noise, gold, np.eye(4))["within_spread"] > 0.99
    permuted = classification.compute_neural_collapse(np.eye(4)[gold], gold, np.eye(4)[[1, 2, 3, 0]])
    assert permuted["vector_angle"] == pytest.approx(90)


def test_equal_scores_do_not_push_the_right_class_out_of_the_top_k():
    scores = np.array([[1.0, 1.0, 0.0]])
    assert classification.compute_top_k_accuracy(scores, np.array([1]), 1) == 1.0
    assert classification.compute_top_k_accuracy(scores, np.array([2]), 2) == 0.0


def images(n: int = 64, size: int = 9) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_is_the_image_moved_with_its_edge_gone_on():
    given = images()
    moved = augmentation.moved(given, 2, seeded(0))
    assert moved.shape == given.shape
    around = torch.nn.functional.pad(given, (2, 2, 2, 2), mode="replicate")
    for before, after in zip(around, moved, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(before[:, y : y + 9, x : x + 9], after)]
        assert len(places) == 1
    assert torch.equal(augmentation.moved(given, 0, seeded(0)), given)


def test_a_flip_turns_some_and_leaves_the_rest():
    given = images()
    turned = augmentation.flipped(given, seeded(0))
    same, mirrored = ((turned == other).flatten(1).all(1) for other in (given, given.flip(3)))
    assert (same ^ mirrored).all()
    assert 15 < int(same.sum()) < 49


@pytest.mark.parametrize("way", [augmentation.blended, augmentation.pasted])
def test_mixed_images_are_in_brightness_what_their_shares_say(way):
    given = torch.arange(64.0).view(-1, 1, 1, 1).expand(-1, 3, 9, 9).clone()
    for seed in range(20):
        mixed, partner, share = way(given, 1.0, seeded(seed))
        own, other = torch.arange(64.0), partner.float()
        assert torch.allclose(mixed.mean((1, 2, 3)), share * own + (1 - share) * other, atol=1e-4)
        assert 0 <= float(share[0]) <= 1
    assert torch.equal(way(given, 1.0, seeded(3))[0], way(given, 1.0, seeded(3))[0])


def test_the_average_is_that_of_the_weights_it_was_shown_once_a_step():
    live = torch.nn.Linear(1, 1, bias=False)
    average = Average(live, 0.5)
    values = [3.0, 5.0, 9.0, 1.0]
    expected = 0.0
    for step, value in enumerate(values):
        live.weight.data.fill_(value)
        average.follow(live, step)
        average.follow(live, step)  # another part of the same step
        keep = min(0.5, step / (10 + step))
        expected = keep * expected + (1 - keep) * value
    with average.inside(live):
        assert live.weight.item() == pytest.approx(expected)
    assert live.weight.item() == 1.0
    average.into(live)
    assert live.weight.item() == pytest.approx(expected)
