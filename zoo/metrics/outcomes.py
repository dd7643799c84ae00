"""The parts of a score: one outcome for each query, row or repetition. Two encoders are compared on the same ones.

Source of the comparison: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 8.3 and 13.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

Array = npt.NDArray[Any]

DRAWS = 1000
BLOCK_SIZE = 4_000_000  # weights that are held at a time
CONFIDENCE = 0.95


class Outcomes(NamedTuple):
    """The outcomes of one encoder on one task.

    Attributes:
        unit: what an outcome belongs to, in the plural: queries, texts, pairs or repetitions.
        statistic: how the outcomes become the score. "mean" of `values`; "rank correlation" of its two columns;
            "average precision" of the first column, with the labels 0 and 1 in the second.
        values: (n,) float64 for "mean", else (n, 2).
    """

    unit: str
    statistic: Literal["mean", "rank correlation", "average precision"]
    values: Array

    def compute_score(self) -> float:
        """Return the score of all outcomes."""
        return float(_STATISTICS[self.statistic](self.values, np.ones((1, len(self.values))))[0])


class Comparison(NamedTuple):
    """The difference of two scores, and the bounds of its 95 % interval."""

    difference: float
    low: float
    high: float


def compare(own: Outcomes, other: Outcomes | float, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Compare two scores by a paired bootstrap: both are computed again on the same resampled outcomes.

    Args:
        own, other: outcomes of the same n units in the same order. `other` may be a score that does not depend on the units.
        draws: the number of resampled sets.

    Ranks are those among all outcomes. Raises ValueError for outcomes of different units.
    """
    if isinstance(other, Outcomes) and (own.unit, len(own.values)) != (other.unit, len(other.values)):
        raise ValueError(f"outcomes of {len(own.values)} {own.unit} and {len(other.values)} {other.unit} are not pairs")
    differences = []
    for weights in _draw_weights(len(own.values), draws, seed):
        scores = _STATISTICS[own.statistic](own.values, weights)
        if isinstance(other, Outcomes):
            scores -= _STATISTICS[other.statistic](other.values, weights)
        else:
            scores -= other
        differences.append(scores)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    difference = own.compute_score() - (other.compute_score() if isinstance(other, Outcomes) else other)
    return Comparison(difference, float(low), float(high))


def _draw_weights(count: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each of `count` units was drawn, in blocks (b, count) of `draws` rows together."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_SIZE // count)
    shares = np.full(count, 1 / count)
    for begin in range(0, draws, block):
        yield rng.multinomial(count, shares, size=min(block, draws - begin)).astype(np.float64)


def _compute_means(values: Array, weights: Array) -> Array:
    means: Array = weights @ values / weights.sum(1)
    return means


def _compute_rank_correlations(values: Array, weights: Array) -> Array:
    """Return weighted Pearson correlations of ranks; 0 where a column is constant."""
    ranks = rankdata(values, axis=0)
    x, y = (ranks - ranks.mean(0)).T
    total = weights.sum(1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    variance = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    return np.where(variance > 1e-9, covariance / np.sqrt(np.maximum(variance, 1e-9)), 0.0)


def _compute_average_precisions(values: Array, weights: Array) -> Array:
    """Return average precisions; 0 if no positive pair was drawn."""
    scores, labels = values.T
    is_positive = labels > 0
    precisions = [
        average_precision_score(is_positive, scores, sample_weight=row) if row[is_positive].any() else 0.0
        for row in weights
    ]
    return np.array(precisions)


_STATISTICS: dict[str, Callable[[Array, Array], Array]] = {
    "mean": _compute_means,
    "rank correlation": _compute_rank_correlations,
    "average precision": _compute_average_precisions,
}
