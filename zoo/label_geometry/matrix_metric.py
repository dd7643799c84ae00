"""Metrics of labels that are kept as a matrix of distances: given ones, graphs, scales and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from zoo.core.errors import ZooError
from zoo.label_geometry.label_metric import Array, Label, LabelMetric, check_labels

MAX_LABELS = 10_000  # a matrix of distances between more labels takes more than 800 MB
TOLERANCE = 1e-6  # by which a matrix may differ from a symmetric one, relative to its largest distance


class NameEncoder(Protocol):
    """The part of an encoder that turns names into vectors."""

    def encode(self, inputs: Any, /) -> Any:
        """Return a vector for each text."""

    def as_float_vectors(self, vectors: Any, /) -> Any:
        """Return the vectors as (n, d) floats."""


class MatrixMetric(LabelMetric):
    """Distances (labels, labels) that are given, symmetric with zeros on the diagonal.

    Raises ZooError for a matrix of another shape or with other values, and for more than MAX_LABELS labels.
    """

    def __init__(self, labels: Sequence[Label], distances: Any) -> None:
        check_labels(labels)
        _check_count(len(labels))
        matrix = np.asarray(distances, dtype=np.float64)
        if matrix.shape != (len(labels), len(labels)):
            raise ZooError(f"{len(labels)} labels need a matrix of {len(labels)} × {len(labels)} distances")
        if not np.isfinite(matrix).all() or (matrix < 0).any():
            raise ZooError("distances between labels must be finite numbers that are not negative")
        slack = TOLERANCE * matrix.max()
        if np.abs(np.diagonal(matrix)).max() > slack or np.abs(matrix - matrix.T).max() > slack:
            raise ZooError("the matrix of distances between labels must be symmetric, with zeros on its diagonal")
        super().__init__(labels, np.ones(len(labels), dtype=bool))
        self._distances = matrix

    def compute_expected_squares(self, probabilities: Array, observed: Array) -> Array:
        """Return E[d(truth, j)²] (n, labels) float64: one product with the squared distances."""
        squares: Array = probabilities @ self._distances[observed] ** 2
        return squares

    def compute_distances(self, a: Array, b: Array) -> Array:
        """Return the distances (n,) between labels at the positions `a` and `b`."""
        distances: Array = self._distances[a, b]
        return distances


def make_ordered_metric(labels: Sequence[Label]) -> MatrixMetric:
    """Make the metric of a scale: labels are 1 apart from their neighbours, in the order of `labels`."""
    places = np.arange(len(labels), dtype=np.float64)
    _check_count(len(labels))
    return MatrixMetric(labels, np.abs(places[:, None] - places))


def make_graph_metric(edges: Iterable[tuple[Label, Label] | tuple[Label, Label, float]]) -> MatrixMetric:
    """Make the metric of an undirected graph: the length of the shortest path between two labels.

    Args:
        edges: two labels, and the length of the edge between them, by default 1.

    Raises ZooError for an edge without a positive length, and for a graph that is not connected.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    lengths: dict[tuple[Label, Label], float] = {}
    for edge in edges:
        length = float(edge[2]) if len(edge) == 3 else 1.0
        if not 0 < length < float("inf"):
            raise ZooError(f"the edge between {edge[0]!r} and {edge[1]!r} needs a positive length, not {length!r}")
        pair = (edge[0], edge[1])
        lengths[pair] = min(length, lengths.get(pair, length))
    labels = list(dict.fromkeys(label for pair in lengths for label in pair))
    check_labels(labels)
    _check_count(len(labels))
    place = {label: number for number, label in enumerate(labels)}
    rows, columns = (np.array([place[pair[side]] for pair in lengths]) for side in (0, 1))
    graph = coo_array((list(lengths.values()), (rows, columns)), shape=(len(labels), len(labels)))
    distances = shortest_path(graph.tocsr(), directed=False)
    if not np.isfinite(distances).all():
        apart = labels[int(np.flatnonzero(np.isinf(distances[0]))[0])]
        raise ZooError(f"no path leads from {labels[0]!r} to {apart!r}: the graph of the labels must be connected")
    return MatrixMetric(labels, distances)


def make_names_metric(encoder: NameEncoder, labels: Sequence[str]) -> MatrixMetric:
    """Make the metric of the labels' names: the distance between the unit vectors that `encoder` gives them."""
    check_labels(labels)
    _check_count(len(labels))
    vectors = np.asarray(encoder.as_float_vectors(encoder.encode(list(labels))), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    squares = np.maximum(2 - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(squares, 0)
    return MatrixMetric(labels, np.sqrt(squares))


def _check_count(count: int) -> None:
    if count > MAX_LABELS:
        raise ZooError(
            f"{count} labels are too many for a matrix of distances: use a tree, or at most {MAX_LABELS} labels"
        )
