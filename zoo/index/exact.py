"""An exact search over the rows of an index, whose own vectors may be codes: the rows are encoded again, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.index.arrays import Numbers, Vectors
from zoo.index.rows import ID
from zoo.index.vectors import Encoded
from zoo.index.writer import Encodes

if TYPE_CHECKING:
    from zoo.index.opened import OpenIndex

TOLERANCE = 1e-5
"""Relative difference up to which two scores count as equal."""


class Exact(NamedTuple):
    """The result of an exact search.

    Attributes:
        scores: (m, k) float32, descending.
        numbers: (m, k) int64 numbers of rows in the whole index.
        found: (m, f) float32 exact scores of the rows with which the result is compared; minus infinity for no row.
    """

    scores: Vectors
    numbers: Numbers
    found: Vectors

    def compute_recall(self) -> float:
        """Return the share of the k best rows that were found. A row with the score of one of them counts as one of them."""
        lowest = self.scores[:, -1:]
        near = self.found >= lowest - TOLERANCE * np.abs(lowest)
        return float(np.minimum(near.sum(1), self.scores.shape[1]).sum() / max(1, self.scores.size))


def search_exactly(
    index: OpenIndex, encoder: Encodes, queries: Vectors, found: Numbers, k: int, advance: Callable[[int], Any]
) -> Exact:
    """Return the k best rows of queries (m, d), and the exact scores of rows that a search found.

    Args:
        encoder: gives the vectors of all rows in their order, removed ones included.
        found: (m, f) numbers of rows in the whole index; -1 for no row.
        advance: receives the number of rows that were encoded since the last call.
    """
    layout = index.model.layout
    count = min(k, len(index))
    scores, numbers = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    own = np.full(found.shape, -np.inf, np.float32)
    for first, shard, mask in zip(index.starts.tolist(), index.shards, index.find_rows(), strict=False):
        start = first
        for batch in shard.iterate_rows(layout.texts if layout.image is None else [ID]):
            rows = batch.to_pylist()
            inputs = [layout.join_texts(row) if layout.image is None else None for row in rows]
            block = score_rows(queries, encoder.encode_rows(inputs), len(rows))
            end = start + len(rows)
            if mask is not None:
                block[:, ~mask[start - first : end - first]] = -np.inf
            is_here = (found >= start) & (found < end)
            own[is_here] = block[np.nonzero(is_here)[0], found[is_here] - start]
            scores, numbers = _keep_best(
                np.concatenate([scores, block], axis=1),
                np.concatenate([numbers, np.broadcast_to(np.arange(start, end), block.shape)], axis=1),
                count,
            )
            start = end
            advance(len(rows))
    return Exact(scores, numbers, own)


def score_rows(queries: Vectors, encoded: Encoded, rows: int) -> Vectors:
    """Return the scores (m, rows) of queries. A row has the score of its best vector."""
    scores: Vectors = queries @ encoded.vectors.T
    if encoded.places is None:
        return scores
    firsts = np.searchsorted(encoded.places[:, 0], np.arange(rows))
    best: Vectors = np.maximum.reduceat(scores, firsts, axis=1)
    return best


def _keep_best(scores: Vectors, numbers: Numbers, k: int) -> tuple[Vectors, Numbers]:
    if scores.shape[1] > k:
        places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, numbers = np.take_along_axis(scores, places, 1), np.take_along_axis(numbers, places, 1)
    order = np.lexsort((numbers, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)
