"""`LabelMetric`: how far two labels are from each other, and the constructors of the five kinds of metric.

Labels are texts or numbers. Positions of labels are places in `labels`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    from zoo.encoder import Encoder

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

    # -- constructors ----------------------------------------------------------------------------------------------

    @staticmethod
    def tree(parents: Mapping[Label, Label | None], weight: float | Mapping[Label, float] = 1.0) -> LabelMetric:
        """Return the metric of a tree: the length of the path between two labels.

        Args:
            parents: the parent of each label; None for a root. A parent without an entry is a root.
            weight: the length of every edge, or of the edge above each label.

        Several roots hang from one more node, which is never an answer. Raises ZooError for a cycle and for a length that is
        not a positive number.
        """
        from zoo.label_geometry.tree_metric import TreeMetric

        return TreeMetric(parents, weight)

    @staticmethod
    def graph(edges: Iterable[tuple[Label, Label] | tuple[Label, Label, float]]) -> LabelMetric:
        """Return the metric of an undirected graph: the length of the shortest path between two labels.

        Args:
            edges: two labels, and the length of the edge between them, by default 1.

        Raises ZooError for an edge without a positive length, and for a graph that is not connected.
        """
        from zoo.label_geometry.matrix_metric import make_graph_metric

        return make_graph_metric(edges)

    @staticmethod
    def ordered(labels: Sequence[Label]) -> LabelMetric:
        """Return the metric of a scale: labels are 1 apart from their neighbours, in the order of `labels`."""
        from zoo.label_geometry.matrix_metric import MatrixMetric

        places = np.arange(len(labels), dtype=np.float64)
        return MatrixMetric(labels, np.abs(places[:, None] - places))

    @staticmethod
    def matrix(labels: Sequence[Label], distances: Any) -> LabelMetric:
        """Return a metric by its matrix (labels, labels) of distances, symmetric with zeros on the diagonal.

        Raises ZooError for a matrix of another shape or with other values.
        """
        from zoo.label_geometry.matrix_metric import MatrixMetric

        return MatrixMetric(labels, distances)

    @staticmethod
    def names(encoder: Encoder, labels: Sequence[str]) -> LabelMetric:
        """Return the metric of the labels' names: the distance between the unit vectors that `encoder` gives them."""
        from zoo.label_geometry.matrix_metric import make_names_metric

        return make_names_metric(encoder, labels)

    # -- use -------------------------------------------------------------------------------------------------------

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
