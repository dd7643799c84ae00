"""The metric of a tree of labels, and expected squared distances to all its nodes in linear time.

A matrix of all pairs is never made: a tree of 100,000 labels would need 80 GB. Moments of the distances go up the tree once and
down once instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from zoo.core.errors import ZooError
from zoo.label_geometry.label_metric import Array, Label, LabelMetric, check_labels

CACHED_NUMBERS = 1 << 17  # numbers of an array that stays in the cache


class TreeMetric(LabelMetric):
    """The length of the path between two labels of a tree.

    Args:
        parents: the parent of each label; None for a root. A parent without an entry is a root.
        weight: the length of every edge, or of the edge above each label.

    Several roots hang from one more node, which is never an answer. Raises ZooError for a cycle and for a length that is not a
    positive number.

    Nodes are kept level by level, from the roots down. Each also has an interval of places in a depth-first order, which holds
    the node and everything below it. The sum over a subtree is then the difference of two running sums.
    """

    def __init__(self, parents: Mapping[Label, Label | None], weight: float | Mapping[Label, float] = 1.0) -> None:
        labels = list(dict.fromkeys([*parents, *(parent for parent in parents.values() if parent is not None)]))
        check_labels(labels)
        place = {label: number for number, label in enumerate(labels)}
        above = [-1 if parents.get(label) is None else place[parents[label]] for label in labels]  # type: ignore[index]
        first, last, levels = _walk_depth_first(labels, above)
        order = np.argsort(levels, kind="stable")
        super().__init__([labels[number] for number in order], (last - first == 1)[order])
        rank = np.empty(len(order) + 1, dtype=np.int64)
        rank[order], rank[-1] = np.arange(len(order)), -1
        self._parents = rank[np.array(above, dtype=np.int64)[order]]
        self._first, self._last, self._levels = first[order], last[order], levels[order]
        self._weights = np.array([_read_weight(weight, label) for label in self.labels])
        bounds = np.searchsorted(self._levels, np.arange(self._levels[-1] + 2))
        self._level_slices = [slice(start, end) for start, end in itertools.pairwise(bounds.tolist())]
        # Roots hang from a common node. The edge above a single root is on no path, so its length does not matter.
        self._depths = self._weights.copy()
        for level in self._level_slices[1:]:
            self._depths[level] += self._depths[self._parents[level]]

    def compute_expected_squares(self, probabilities: Array, observed: Array) -> Array:
        """Return E[d(truth, j)²] (n, labels) float64 for every node j, in time linear in the nodes.

        A node hands its expected distance t and expected square q to each child, over an edge of length w. The child has the
        probability m at or below it, and the expected distance s of that part. Then t changes by w (1 - 2m), and q changes by
        2w (t - 2s) + w² (1 - 4m).
        """
        shape = (len(self.labels), len(probabilities))
        weights, depths = self._weights[:, None], self._depths[:, None]
        shares, distances = probabilities.T, probabilities.T * depths[observed]
        below = self._sum_subtrees(shares, observed)
        inside = self._sum_subtrees(distances, observed) - depths * below
        mean_steps = weights * (1 - 2 * below)
        square_steps = weights * (weights * (1 - 4 * below) - 4 * inside)
        means, squares = np.empty(shape), np.empty(shape)
        mean, square = distances.sum(0), (distances * depths[observed]).sum(0)
        for number, level in enumerate(self._level_slices):
            if number:
                mean, square = means[self._parents[level]], squares[self._parents[level]]
            means[level] = mean + mean_steps[level]
            squares[level] = square + square_steps[level] + 2 * weights[level] * mean
        return squares.T

    def _sum_subtrees(self, values: Array, observed: Array) -> Array:
        """Return the sum (nodes, rows) of the `values` (observed, rows) at or below each node."""
        sums = np.zeros((len(self.labels) + 1, values.shape[1]))
        sums[self._first[observed] + 1] = values
        np.cumsum(sums, axis=0, out=sums)
        totals: Array = sums[self._last] - sums[self._first]
        return totals

    def compute_distances(self, a: Array, b: Array) -> Array:
        """Return the lengths (n,) of the paths between the nodes `a` and `b`."""
        meeting = np.full(len(a), -1)
        for x, y in zip(self.find_ancestors(a), self.find_ancestors(b), strict=True):
            meeting = np.where((x == y) & (x >= 0), x, meeting)
        depth = np.where(meeting < 0, 0.0, self._depths[meeting])
        lengths: Array = self._depths[a] + self._depths[b] - 2 * depth
        return lengths

    def find_ancestors(self, positions: Array) -> Array:
        """Return positions (levels, n) of the ancestor or the label itself on each level; the first level holds the roots."""
        ancestors = np.full((len(self._level_slices), len(positions)), -1, dtype=np.int64)
        nodes, columns = np.asarray(positions), np.arange(len(positions))
        while len(columns):
            ancestors[self._levels[nodes], columns] = nodes
            nodes = self._parents[nodes]
            columns, nodes = columns[nodes >= 0], nodes[nodes >= 0]
        return ancestors

    def sum_below(self, probabilities: Array, observed: Array, positions: Array) -> Array:
        """Return for each row of `probabilities` (n, observed) the share that is at or below its node of `positions` (n,)."""
        places, first, last = self._first[observed], self._first[positions], self._last[positions]
        is_below = (places >= first[:, None]) & (places < last[:, None])
        shares: Array = np.where(is_below, probabilities, 0.0).sum(1)
        return shares

    def count_block_rows(self) -> int:
        """A few rows, because the passes are fastest while their arrays stay in the processor's cache."""
        return max(1, min(512, CACHED_NUMBERS // len(self.labels)))


def _walk_depth_first(labels: list[Label], parents: list[int]) -> tuple[Array, Array, Array]:
    """Return for each node its depth-first place, the place after all nodes below it, and its level.

    Raises ZooError for a cycle.
    """
    children: list[list[int]] = [[] for _ in labels]
    for child, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(child)
    first, levels = np.full(len(labels), -1), np.zeros(len(labels), dtype=np.int64)
    order: list[int] = []
    stack = [(node, 0) for node, parent in enumerate(parents) if parent < 0]
    while stack:
        node, level = stack.pop()
        first[node], levels[node] = len(order), level
        order.append(node)
        stack += [(child, level + 1) for child in children[node]]
    if len(order) < len(labels):
        node, passed = int(np.argmin(first)), set[int]()
        while node not in passed:  # upwards until a node comes back: it is on the cycle
            passed.add(node)
            node = parents[node]
        raise ZooError(f"the label {labels[node]!r} is above itself: the parents of a tree form no cycle")
    last = first + 1
    for node in reversed(order):
        if parents[node] >= 0:
            last[parents[node]] = max(last[parents[node]], last[node])
    return first, last, levels


def _read_weight(weight: float | Mapping[Label, float], label: Label) -> float:
    value = weight.get(label, 1.0) if isinstance(weight, Mapping) else weight
    if not 0 < value < float("inf"):
        raise ZooError(f"the edge above the label {label!r} needs a positive length, not {value!r}")
    return float(value)
