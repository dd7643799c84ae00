"""How good a classifier and its embedding are: top-k, nearest neighbours, calibration, neural collapse, unknown inputs.

Everything is numpy: scores (n, classes), unit vectors (n, d), labels (n,) as positions of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CALIBRATION_BINS = 15
BLOCK = 1024  # rows compared at a time


def compute_top_k_accuracy(scores: Array, labels: Array, k: int) -> float:
    """Return the share of the rows for which fewer than k classes score higher than the right one."""
    better = (scores > np.take_along_axis(scores, labels[:, None], 1)).sum(1)
    return float((better < k).mean())


def compute_knn_accuracy(
    vectors: Array,
    labels: Array,
    train_vectors: Array,
    train_labels: Array,
    k: int = 20,
    scale: float = 1 / 0.07,
) -> float:
    """Return the accuracy of a vote of the k nearest of the (m, d) training vectors by cosine c.

    Each neighbour votes with weight exp(scale · c) (Wu et al., arXiv 1805.01978, section 3.4).
    """
    k, classes, correct = min(k, len(train_vectors)), int(max(labels.max(), train_labels.max())) + 1, 0
    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ train_vectors.T
        neighbours = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = np.exp(scale * (np.take_along_axis(cosines, neighbours, 1) - 1))
        votes = np.zeros((len(neighbours), classes))
        np.add.at(votes, (np.arange(len(neighbours))[:, None], train_labels[neighbours]), weights)
        correct += int((votes.argmax(1) == labels[start : start + BLOCK]).sum())
    return correct / len(vectors)


def compute_softmax(scores: Array, scale: float) -> Array:
    """Return probabilities (n, classes) float64 of scores multiplied by `scale`."""
    shifted = scale * (scores.astype(np.float64) - scores.max(1, keepdims=True))
    exponentials: Array = np.exp(shifted)
    probabilities: Array = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def fit_scale(scores: Array, labels: Array) -> float:
    """Return the factor of the scores whose softmax gives the labels of held-out rows the highest likelihood.

    This is temperature scaling (Guo et al., arXiv 1706.04599, section 4.2); the factor is the inverse of the temperature.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def compute_log_loss(log_scale: float) -> float:
        return float(-np.log(compute_softmax(scores, float(np.exp(log_scale)))[rows, labels] + 1e-12).mean())

    spread = float(scores.std()) or 1.0
    middle = -np.log(spread)
    return float(np.exp(minimize_scalar(compute_log_loss, bounds=(middle - 6, middle + 8), method="bounded").x))


def compute_calibration_error(probabilities: Array, labels: Array) -> tuple[float, list[list[float]]]:
    """Return the expected calibration error, and [mean probability, accuracy, rows] for each bin that has rows.

    The bins divide the probability of the best class into CALIBRATION_BINS equal parts (Guo et al., section 2).
    """
    confidences, are_correct = probabilities.max(1), probabilities.argmax(1) == labels
    bin_numbers = np.minimum((confidences * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = []
    for number in range(CALIBRATION_BINS):
        in_bin = bin_numbers == number
        if in_bin.any():
            bins.append([float(confidences[in_bin].mean()), float(are_correct[in_bin].mean()), int(in_bin.sum())])
    error = sum(abs(confidence - accuracy) * count for confidence, accuracy, count in bins) / len(labels)
    return error, bins


def compute_neural_collapse(vectors: Array, labels: Array, targets: Array) -> dict[str, float]:
    """Measure neural collapse (Papyan et al., arXiv 2008.08186).

    Args:
        targets: the class vectors (classes, d).

    Returns `vector_angle`, the mean angle in degrees between the mean of a class and its class vector, and `within_spread`, the
    share of the variance that is inside the classes.
    """
    present = np.unique(labels)
    means = np.stack([vectors[labels == label].mean(0) for label in present])
    norms = np.linalg.norm(means, axis=1) * np.linalg.norm(targets[present], axis=1)
    angles = np.degrees(np.arccos(np.clip((means * targets[present]).sum(1) / np.maximum(norms, 1e-12), -1, 1)))
    within = ((vectors - means[np.searchsorted(present, labels)]) ** 2).sum()
    total = ((vectors - vectors.mean(0)) ** 2).sum()
    return {"vector_angle": float(angles.mean()), "within_spread": float(within / max(total, 1e-12))}


def compute_auroc(known: Array, unknown: Array) -> float:
    """Return how often a known input scores higher than an unknown one; equal scores count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([known, unknown]))
    n, m = len(known), len(unknown)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def count_confusions(predictions: Array, labels: Array, classes: int) -> Array:
    """Return counts (classes, classes) int64: rows are the labels, columns the predictions."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (labels, predictions), 1)
    return table
