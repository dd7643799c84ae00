"""The evidence that anything in the corpus answers a query at all.

It reads the highest scores as they are, because they tell foreign queries, and differences inside a list do not. It also reads
how far the query lies outside the directions of known queries. It must not see the vector itself: a network that does recognises
the foreign queries of its training, and no other kind of them.

The direction comes from foreign queries if there are any, and is fixed otherwise. The place never depends on them, because other
foreign queries may come nearer than those that are known. It is a low quantile of the queries that the corpus answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.after.relevance.lines import FOLDS

Floats = npt.NDArray[np.float64]
Folds = npt.NDArray[np.int64]

FEATURES = 6
FIXED_DIRECTION = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)
"""Without foreign queries: the mean of five scores, minus the length that the directions of the queries miss."""
PLACES = (0.1, 0.08, 0.06, 0.04, 0.02, 0.01, 0.005)
"""Quantiles of own queries at which the gate may stand."""
STEEPNESS = 10.0
"""Log-odds per standard deviation of own queries."""


def join_features(lists: Floats, familiarity: Floats) -> Floats:
    """Return features (m, FEATURES): first score, mean of five, mean of the list, and three of `Familiarity.measure`."""
    return np.column_stack([lists[:, 0], lists[:, :5].mean(1), lists.mean(1), familiarity[:, :3]])


@dataclass(frozen=True)
class Gate:
    """A direction in the features, and a place on it.

    Attributes:
        weights: (FEATURES,) float64. Own queries have the standard deviation 1 along them.
        bias: the value of an average own query is 0 with it.
        place: the value at which both answers are equally probable.
    """

    weights: Floats
    bias: float
    place: float = 0.0

    @classmethod
    def fit(cls, own: Floats, foreign: Floats | None) -> Gate:
        """Fit the direction to features of queries that belong to the corpus (n, FEATURES) and of foreign ones (k, FEATURES).

        It is that of a logistic regression in which both kinds weigh the same.
        """
        from sklearn.linear_model import LogisticRegression

        mean, deviation = own.mean(0), own.std(0) + 1e-9
        direction = np.array(FIXED_DIRECTION)
        if foreign is not None:
            features = (np.concatenate([own, foreign]) - mean) / deviation
            labels = np.repeat([1, 0], [len(own), len(foreign)])
            direction = LogisticRegression(class_weight="balanced", max_iter=1000).fit(features, labels).coef_[0]
        weights = direction / deviation
        weights = weights / (float((own @ weights).std()) + 1e-9)
        return cls(weights, float(-mean @ weights))

    def measure(self, features: Floats) -> Floats:
        """Return the values (m,) of features (m, FEATURES) along the direction."""
        return features @ self.weights + self.bias

    def apply(self, features: Floats) -> Floats:
        """Return the log-odds (m,) that queries with features (m, FEATURES) belong to the corpus."""
        return to_log_odds(self.measure(features), self.place)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {"gate": np.concatenate([self.weights, [self.bias, self.place]])}

    @classmethod
    def read(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Gate:
        """Return what `tensors` gave."""
        values = tensors["gate"]
        return cls(values[:-2], float(values[-2]), float(values[-1]))


def to_log_odds(values: Floats, place: float) -> Floats:
    """Return the log-odds of values along the direction."""
    return STEEPNESS * (values - place)


def measure_held_out(
    own: Floats, own_folds: Folds, foreign: Floats | None, foreign_folds: Folds
) -> tuple[Floats, Floats]:
    """Return the values of own (n,) and foreign queries (k,), each along a direction that was fitted without its fold."""
    results = np.empty(len(own)), np.empty(len(foreign_folds))
    for fold in range(FOLDS):
        others = None if foreign is None else foreign[foreign_folds != fold]
        gate = Gate.fit(own[own_folds != fold], others)
        results[0][own_folds == fold] = gate.measure(own[own_folds == fold])
        if foreign is not None:
            results[1][foreign_folds == fold] = gate.measure(foreign[foreign_folds == fold])
    return results
