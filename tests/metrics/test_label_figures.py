"""Wrong labels are listed first, and a linear classifier reads as many nats as there are."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.metrics.label_sharpness import measure_sharpness
from zoo.metrics.linear_information import measure_information

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(8), 60)
CENTRES = RNG.normal(size=(8, 12))
VECTORS = (CENTRES[LABELS] + 0.3 * RNG.normal(size=(480, 12))).astype(np.float32)


def test_planted_label_errors_are_the_suspects():
    wrong = RNG.permutation(480)[:15]
    labels = LABELS.copy()
    labels[wrong] = (labels[wrong] + 3) % 8
    suspects = measure_sharpness(VECTORS, labels).suspects[:10]
    assert len(suspects) == 10
    assert {suspect.row for suspect in suspects} <= set(wrong)
    assert all(suspect.agreement < suspect.other_agreement for suspect in suspects)
    distances = [suspect.distance for suspect in suspects]
    assert distances == sorted(distances)


def test_sharpness_is_the_steepest_pair_of_different_labels_and_keeps_under_rotation_and_scale():
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    upper = distances[np.triu_indices(480, 1)]
    expected = np.median(upper) / distances[LABELS[:, None] != LABELS].min()
    found = measure_sharpness(VECTORS, LABELS)
    assert found.label_sharpness == pytest.approx(expected, rel=1e-4)
    assert 1 < found.label_sharpness_999 <= found.label_sharpness
    rotation = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    again = measure_sharpness(5 * VECTORS @ rotation, LABELS)
    assert again.label_sharpness == pytest.approx(found.label_sharpness, rel=1e-3)


def test_equal_vectors_with_different_labels_are_contradictions_and_not_infinitely_sharp():
    vectors = np.vstack([VECTORS, VECTORS[:3]])
    labels = [*LABELS, 7, 7, LABELS[2]]
    found = measure_sharpness(vectors, labels)
    assert found.contradictions == 2
    assert np.isfinite(found.label_sharpness)
    assert found.suspects[0].distance == pytest.approx(0, abs=1e-3)
    assert measure_sharpness(VECTORS[:60], LABELS[:60]).suspects == ()


def test_information_is_the_entropy_for_separate_classes_and_nothing_for_noise():
    half = np.arange(480) % 2 == 0
    sure = measure_information(VECTORS[half], LABELS[half], VECTORS[~half], LABELS[~half])
    assert sure.entropy == pytest.approx(np.log(8))
    assert 0.95 * np.log(8) < sure.v_information <= sure.entropy
    noise = RNG.normal(size=(480, 12)).astype(np.float32)
    none = measure_information(noise[half], LABELS[half], noise[~half], LABELS[~half])
    assert none.v_information < 0.05


def test_information_of_a_noisy_channel_is_its_capacity():
    """A label that a uniform draw replaces with probability .3 leaves ln 4 - H(.775, .075, .075, .075) nats."""
    labels = RNG.integers(0, 4, 4000)
    seen = np.where(RNG.random(4000) < 0.3, RNG.integers(0, 4, 4000), labels)
    shares = np.array([0.775, 0.075, 0.075, 0.075])
    expected = np.log(4) + (shares * np.log(shares)).sum()
    vectors = np.eye(4, dtype=np.float32)[seen]
    found = measure_information(vectors[:2000], labels[:2000], vectors[2000:], labels[2000:])
    assert found.v_information == pytest.approx(expected, abs=0.06)
    assert found.v_information_share == pytest.approx(found.v_information / found.entropy)
