"""What a classifier and its embedding are worth: top-k, nearest neighbours, calibration, neural collapse, unknown inputs.

Everything is numpy: scores (n, classes), vectors (n, d) of unit norm, gold (n,) positions of classes.
"""

from __future__ import annotations

import numpy as np

BINS = 15
BLOCK = 1024


def top(scores: np.ndarray, gold: np.ndarray, k: int) -> float:
    """Share of the rows whose class is among the k best; ties are broken by position."""
    better = (scores > np.take_along_axis(scores, gold[:, None], 1)).sum(1)
    return float((better < k).mean())


def neighbours(
    vectors: np.ndarray,
    gold: np.ndarray,
    known: np.ndarray,
    known_gold: np.ndarray,
    k: int = 20,
    sharp: float = 1 / 0.07,
) -> float:
    """Accuracy of the k nearest of the (m, d) `known` by cosine c, each with the weight exp(sharp · c) (Wu et al., arXiv
    1805.01978, section 3.4)."""
    k, classes, right = min(k, len(known)), int(max(gold.max(), known_gold.max())) + 1, 0
    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ known.T
        near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = np.exp(sharp * (np.take_along_axis(cosines, near, 1) - 1))
        votes = np.zeros((len(near), classes))
        np.add.at(votes, (np.arange(len(near))[:, None], known_gold[near]), weights)
        right += int((votes.argmax(1) == gold[start : start + BLOCK]).sum())
    return right / len(vectors)


def softmax(scores: np.ndarray, scale: float) -> np.ndarray:
    """(n, classes) float64 that sum to 1 a row."""
    shifted = scale * (scores.astype(np.float64) - scores.max(1, keepdims=True))
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(1, keepdims=True)


def fitted_scale(scores: np.ndarray, gold: np.ndarray) -> float:
    """The factor of the scores whose softmax gives the classes of held-out rows the most likelihood (temperature scaling, Guo et
    al., arXiv 1706.04599, section 4.2)."""
    from scipy.optimize import minimize_scalar

    own = np.arange(len(gold))

    def loss(log_scale: float) -> float:
        return float(-np.log(softmax(scores, float(np.exp(log_scale)))[own, gold] + 1e-12).mean())

    spread = float(scores.std()) or 1.0
    middle = -np.log(spread)
    return float(np.exp(minimize_scalar(loss, bounds=(middle - 6, middle + 8), method="bounded").x))


def calibration(probabilities: np.ndarray, gold: np.ndarray) -> tuple[float, list[list[float]]]:
    """Expected calibration error over BINS equal bins of the best class's probability (Guo et al., section 2), and for each bin
    that has rows [mean probability, accuracy, rows]."""
    best, right = probabilities.max(1), probabilities.argmax(1) == gold
    place = np.minimum((best * BINS).astype(int), BINS - 1)
    bins = [
        [float(best[here].mean()), float(right[here].mean()), int(here.sum())]
        for b in range(BINS)
        if (here := place == b).any()
    ]
    return sum(abs(sure - true) * count for sure, true, count in bins) / len(gold), bins


def collapse(vectors: np.ndarray, gold: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Neural collapse (Papyan et al., arXiv 2008.08186): `vector_angle`, the mean angle in degrees between a class's mean and its
    vector of `targets` (classes, d); `within_spread`, the share of the variance that is inside the classes."""
    present = np.unique(gold)
    means = np.stack([vectors[gold == k].mean(0) for k in present])
    norms = np.linalg.norm(means, axis=1) * np.linalg.norm(targets[present], axis=1)
    angles = np.degrees(np.arccos(np.clip((means * targets[present]).sum(1) / np.maximum(norms, 1e-12), -1, 1)))
    within = ((vectors - means[np.searchsorted(present, gold)]) ** 2).sum()
    whole = ((vectors - vectors.mean(0)) ** 2).sum()
    return {"vector_angle": float(angles.mean()), "within_spread": float(within / max(whole, 1e-12))}


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often a known input scores higher than one of another data set, ties counted half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([known, unknown]))
    n, m = len(known), len(unknown)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def confusion(predicted: np.ndarray, gold: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts: a row is the class, a column the answer."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (gold, predicted), 1)
    return table
