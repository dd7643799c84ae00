"""Predict the label with the smallest expected squared distance to the truth: the Fréchet mean of the probabilities.

Source: Roberts et al., "Geometry-Aware Adaptation for Pretrained Models", arXiv 2307.12226, equation 1. With equal distances
between all labels the answer is the most probable label. In a tree an inner node may be the answer: if the labels below it share
the probability, it is nearer to all of them than any of them is. The probabilities must be calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.label_geometry.label_metric import Array, Label, LabelMetric
from zoo.label_geometry.tree_metric import TreeMetric

ANSWERS = ("classes", "leaves", "all")
"""Labels that may be answers: the classes of the probabilities, all leaves of the metric, or all its labels."""


@dataclass(frozen=True)
class FrechetAnswer:
    """The answer for one row of probabilities.

    Attributes:
        label: the label with the smallest expected squared distance.
        expected_squared_distance: this distance, if the probabilities are right.
        probability: the probability of the label; in a tree, of the label and everything below it.
    """

    label: Label
    expected_squared_distance: float
    probability: float


def predict_frechet(
    probabilities: Any, classes: Sequence[Label], metric: LabelMetric, *, answers: str = "classes"
) -> list[FrechetAnswer]:
    """Return the answer for each row of `probabilities` (n, classes), which must be calibrated and sum to 1.

    Args:
        classes: the label of each column.
        metric: distances between the labels; it may have more labels than `classes`.
        answers: one of ANSWERS.

    Memory does not grow with the number of rows, but for the answers. Among equally near labels the most probable class wins,
    then the first label of the metric. Raises ZooError for a class that the metric does not have, for unknown `answers`, and
    for rows that do not sum to 1.
    """
    if answers not in ANSWERS:
        raise ZooError(f"answers: {answers!r} is unknown{suggest(str(answers), ANSWERS)}")
    shares = np.asarray(probabilities, dtype=np.float64)
    if shares.ndim != 2 or shares.shape[1] != len(classes):
        raise ZooError(f"{len(classes)} classes need probabilities of shape (n, {len(classes)}), not {shares.shape}")
    if not np.isfinite(shares).all() or (shares < 0).any() or (np.abs(shares.sum(1) - 1) > 1e-3).any():
        raise ZooError("each row of probabilities must hold numbers from 0 to 1 that sum to 1")
    observed = metric.find_positions(classes)
    allowed = {"classes": np.sort(observed), "leaves": np.flatnonzero(metric.is_leaf)}.get(
        answers, np.arange(len(metric.labels))
    )
    chosen: list[FrechetAnswer] = []
    block = metric.count_block_rows()
    for start in range(0, len(shares), block):
        chosen += _choose(shares[start : start + block], observed, metric, allowed)
    return chosen


def _choose(shares: Array, observed: Array, metric: LabelMetric, allowed: Array) -> list[FrechetAnswer]:
    """Return the answers of one block of probabilities."""
    expected = metric.compute_expected_squares(shares, observed)[:, allowed]
    least = expected.min(1)
    # Rounding must not decide between labels that are equally near.
    is_near = expected <= least[:, None] + 1e-9 * (1 + least[:, None])
    own = np.zeros((len(shares), len(metric.labels)))
    own[:, observed] = shares
    places = np.where(is_near, own[:, allowed], -1.0).argmax(1)
    positions = allowed[places]
    if isinstance(metric, TreeMetric):
        totals = metric.sum_below(shares, observed, positions)
    else:
        totals = own[np.arange(len(shares)), positions]
    return [
        FrechetAnswer(metric.labels[position], max(0.0, float(distance)), float(total))
        for position, distance, total in zip(positions, least, totals, strict=True)
    ]


def score_answers(truth: Sequence[Label], answers: Sequence[Label], metric: LabelMetric) -> dict[str, float]:
    """Measure answers against the truth.

    Returns `mean_squared_distance`, `accuracy`, and in a tree `accuracy_level_1` and so on, from the roots down: the share of
    the rows that have a true label on that level whose answer lies at or below it.
    """
    true, given = metric.find_positions(truth), metric.find_positions(answers)
    scores = {
        "mean_squared_distance": float((metric.compute_distances(true, given) ** 2).mean()),
        "accuracy": float((true == given).mean()),
    }
    levels = zip(metric.find_ancestors(true), metric.find_ancestors(given), strict=True)
    for level, (right, found) in enumerate(levels, 1):
        has_label = right >= 0
        scores[f"accuracy_level_{level}"] = float((right == found)[has_label].mean())
    return scores
