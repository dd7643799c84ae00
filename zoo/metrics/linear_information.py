"""Linear V-information: how many nats a linear classifier reads about the labels, on rows that it has not seen.

Source: Xu et al., "A Theory of Usable Information Under Computational Constraints", arXiv 2002.10689, section 2. The figure is
a lower bound of the mutual information, and at most the entropy of the labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.metrics.neighbours import draw_rows

Array = npt.NDArray[Any]
MOST_TRAIN, MOST_TEST = 10_000, 10_000
"""Rows that the classifier learns from and is scored on at most, drawn by the seed."""
STRENGTHS = (0.003, 0.03, 0.3, 3.0)
"""Inverse penalties to choose from, for components of mean variance 1."""
HELD_OUT = 5
"""Every fifth row of a class is held out of the training rows, to choose the penalty."""
LEAST_PROBABILITY = 1e-12


class Information(NamedTuple):
    """The information about labels that a linear classifier reads.

    Attributes:
        v_information: nats: the entropy of the labels minus the cross-entropy of the classifier; 0 if it reads nothing.
        v_information_share: the same as a share of the entropy.
        entropy: nats of the labels of the test rows, the ceiling.
        strength: the inverse penalty of the classifier.
    """

    v_information: float
    v_information_share: float
    entropy: float
    strength: float


def measure_information(
    train: Array,
    train_labels: Sequence[Any],
    test: Array,
    test_labels: Sequence[Any],
    *,
    strength: float | None = None,
    seed: int = 42,
) -> Information:
    """Fit a logistic regression on vectors `train` (n, d), and measure it on `test` (m, d).

    Args:
        train_labels, test_labels: a label for each row. Every label of `test` occurs in `train`.
        strength: the inverse penalty; by default the best of STRENGTHS on a fifth of the training rows.
    """
    classes, train_ids = np.unique([str(label) for label in train_labels], return_inverse=True)
    test_ids = np.searchsorted(classes, [str(label) for label in test_labels])
    rows, held_out = draw_rows(len(train), MOST_TRAIN, seed), draw_rows(len(test), MOST_TEST, seed)
    centre = train[rows].mean(axis=0)
    scale = float(np.sqrt(max(np.square(train[rows] - centre).mean(), 1e-300)))
    inputs, ids = (train[rows] - centre) / scale, train_ids[rows]
    strength = _choose_strength(inputs, ids, len(classes), seed) if strength is None else strength
    model = _fit(inputs, ids, strength)
    shares = np.bincount(test_ids[held_out]) / len(held_out)
    entropy = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    loss = _compute_loss(model, (test[held_out] - centre) / scale, test_ids[held_out], len(classes))
    information = max(0.0, entropy - loss)
    return Information(information, information / entropy if entropy else 0.0, entropy, strength)


def _choose_strength(inputs: Array, ids: Array, count: int, seed: int) -> float:
    """Return the strength with the lowest cross-entropy on every fifth row of each class."""
    order = np.random.default_rng(seed).permutation(len(ids))
    ranks = np.empty(len(ids), np.int64)
    for number in range(count):
        members = order[ids[order] == number]
        ranks[members] = np.arange(len(members))
    is_test = ranks % HELD_OUT == HELD_OUT - 1
    if not is_test.any() or len(np.unique(ids[~is_test])) < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    losses = [
        _compute_loss(_fit(inputs[~is_test], ids[~is_test], strength), inputs[is_test], ids[is_test], count)
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def _fit(inputs: Array, ids: Array, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits do not matter
        return LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(inputs, ids)


def _compute_loss(model: Any, inputs: Array, ids: Array, count: int) -> float:
    """Return the mean cross-entropy in nats. A class that the model has not seen has the least probability."""
    probabilities = np.full((len(inputs), count), LEAST_PROBABILITY)
    probabilities[:, model.classes_] = np.maximum(model.predict_proba(inputs), LEAST_PROBABILITY)
    return float(-np.log(probabilities[np.arange(len(ids)), ids]).mean())
