"""One cut-off for all queries, and the figures of a cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MIN_KEPT = 20
"""Pairs that a cut-off must keep, because the precision of fewer means nothing."""
BINS = 15


@dataclass(frozen=True)
class CutOff:
    """A threshold, and whether it reaches its precision on the pairs from which it was chosen."""

    threshold: float
    is_reached: bool


def choose_cut_off(scores: Array, labels: Array, precision: float) -> CutOff:
    """Choose the lowest threshold above which the share of right pairs is at least `precision`.

    If no threshold reaches it, the one with the best precision is taken. At least MIN_KEPT pairs are kept.

    Args:
        scores, labels: (n, k) scores of the pairs, and whether the row answers the query.
    """
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")
    ordered = flat[order]
    shares = np.cumsum(labels.ravel()[order]) / np.arange(1, len(ordered) + 1)
    is_end = np.append(ordered[1:] < ordered[:-1], True)  # equal scores are kept or cut together
    is_end[: min(MIN_KEPT, len(ordered)) - 1] = False
    ends = np.flatnonzero(is_end)
    reaching = ends[shares[ends] >= precision]
    place = reaching[-1] if len(reaching) else ends[shares[ends].argmax()]
    return CutOff(float(ordered[place]), bool(len(reaching)))


def measure_cut(scores: Array, labels: Array, threshold: float) -> dict[str, float]:
    """Return precision, recall, mean F1 of the queries, and the share of queries that keep nothing.

    Recall and F1 count the right rows of the lists. A query without any has F1 1 if it keeps nothing, and else 0.

    Args:
        scores, labels: (n, k) scores of the pairs, and whether the row answers the query.
        threshold: pairs with at least this score are kept.
    """
    kept = scores >= threshold
    right, kept_counts, totals = (kept & labels).sum(1), kept.sum(1), labels.sum(1)
    sizes = kept_counts + totals
    return {
        "precision": float(right.sum() / max(1, kept_counts.sum())),
        "recall": float(right.sum() / max(1, totals.sum())),
        "f1_per_query": float(np.where(sizes > 0, 2 * right / np.maximum(1, sizes), 1.0).mean()),
        "empty": float((kept_counts == 0).mean()),
    }


def compute_calibration_error(probabilities: Array, labels: Array) -> float:
    """Return the expected calibration error of the probabilities of pairs, in BINS bins of equal width.

    Source: Guo et al., arXiv 1706.04599, section 2, for the probability of the positive class.
    """
    values, right = probabilities.ravel().astype(np.float64), labels.ravel()
    numbers = np.minimum((values * BINS).astype(int), BINS - 1)
    counts = np.bincount(numbers, minlength=BINS)
    distances = np.bincount(numbers, weights=values - right, minlength=BINS)
    return float(np.abs(distances).sum() / max(1, counts.sum()))
