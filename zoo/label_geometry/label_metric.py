"""`LabelMetric`: how far two labels are from each other. `tree_metric` and `matrix_metric` have the kinds of metric.

Labels are texts or numbers. Positions of labels are places in `labels`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

Array = np.ndarray[Any, Any]
Label = str | int


class LabelMetric(ABC):
    """Distances between labels.

    Attributes:
        labels: all labels, in a fixed order.
        is_leaf: (labels,) bool. In a tree, whether nothing is below the label; in other metrics, all labels are leaves.
    """

    def __init__(self, labels: Sequence[Label], is_leaf: Array) -> None:
        self.labels, self.is_leaf = list(labels), is_leaf
        self._positions = {label: position for position, label in enumerate(self.labels)}

    def find_positions(self, labels: Iterable[Label]) -> Array:
        """Return the positions (n,) int64 of labels. Raises ZooError that names an unknown label and the nearest known one."""
        positions = []
        for label in labels:
            if label not in self._positions:
                near = suggest(str(label), map(str, self.labels))
                raise ZooError(f"the label {label!r} has no place in the metric of the labels{near}")
            positions.append(self._positions[label])
        return np.array(positions, dtype=np.int64)

    @abstractmethod
    def compute_expected_squares(self, probabilities: Array, observed: Array) -> Array:
        """Return E[d(truth, j)²] (n, labels) float64 for every label j.

        Args:
            probabilities: (n, observed) float64; rows sum to 1.
            observed: positions of the labels that the probabilities belong to.
        """

    @abstractmethod
    def compute_distances(self, a: Array, b: Array) -> Array:
        """Return the distances (n,) float64 between labels at the positions `a` (n,) and `b` (n,)."""

    def find_ancestors(self, positions: Array) -> Array:
        """Return positions (levels, n) of the label's ancestor or itself on each level below the root; -1 for none.

        Only a tree has levels; other metrics return no row.
        """
        return np.empty((0, len(positions)), dtype=np.int64)

    def count_block_rows(self) -> int:
        """Return how many rows `compute_expected_squares` should get at a time, so that memory stays bounded."""
        return max(1, min(4096, math.floor(4e6 / max(1, len(self.labels)))))


def check_labels(labels: Sequence[Label]) -> None:
    """Raise ZooError for fewer than two labels, and for a label that occurs twice."""
    if len(labels) < 2:
        raise ZooError("a metric of labels needs at least two labels")
    seen = set()
    for label in labels:
        if label in seen:
            raise ZooError(f"the label {label!r} occurs twice in the metric of the labels")
        seen.add(label)
