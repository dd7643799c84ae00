"""The rows that either ranking of a hybrid search finds, each with both scores: of the encoder and of BM25."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.index import lexical
from zoo.index.arrays import Mask, Numbers, Vectors
from zoo.index.opened import OpenIndex


class Candidates(NamedTuple):
    """The rows of some queries, in any order. -1 stands for nothing, with scores of minus infinity.

    Attributes:
        numbers: (m, c) int64 numbers of rows in the whole index.
        vectors: (m, c) int64 numbers of the vectors that were nearest, in their shards.
        products: (m, c) float32 inner products.
        words: (m, c) float32 scores of BM25; 0 for a row without a word of the query.
    """

    numbers: Numbers
    vectors: Numbers
    products: Vectors
    words: Vectors

    def order(self, scores: npt.NDArray[Any], k: int) -> Numbers:
        """Return the places (m, k) of the rows with the best scores (m, c). The encoder decides between equal ones."""
        keys = np.where(self.numbers < 0, -np.inf, scores)
        return np.lexsort((-self.products, -keys), axis=1)[:, :k]


def collect(
    index: OpenIndex,
    queries: Sequence[str],
    vectors: Vectors,
    masks: Sequence[Mask | None],
    depth: int = lexical.DEPTH,
) -> Candidates:
    """Return the best `depth` rows of each ranking for queries with vectors (m, d), among rows that the masks keep.

    A row that only BM25 found gets its inner product by a search among such rows, so no score is missing.
    """
    found, shards = index.search_vectors(vectors, depth, masks)
    numbers = number_rows(index, found.rows, shards)
    allowed = join_masks(index, masks)
    parts = []
    for query, text in enumerate(queries):
        is_row = numbers[query] >= 0
        own: list[Any] = [numbers[query][is_row], found.vectors[query][is_row], found.scores[query][is_row]]
        word_scores = index.lexical.compute_scores(text)
        by_words, _ = index.lexical.select(word_scores, depth, allowed)
        others = np.setdiff1d(by_words, own[0])
        if len(others):
            more = _score_rows(index, vectors[[query]], others)
            own = [np.concatenate([own[part], more[part]]) for part in range(len(own))]
        parts.append((*own, word_scores[own[0]]))
    width = max((len(part[0]) for part in parts), default=0)
    fills = (-1, -1, -np.inf, -np.inf)
    columns = [
        np.stack([np.pad(part[column], (0, width - len(part[column])), constant_values=fill) for part in parts])
        for column, fill in enumerate(fills)
    ]
    return Candidates(*columns)


def _score_rows(index: OpenIndex, vector: Vectors, numbers: Numbers) -> tuple[Numbers, Numbers, Vectors]:
    """Return numbers, nearest vectors and inner products of these rows (n,), for one query (1, d)."""
    masks = []
    for start, shard in zip(index.starts, index.shards, strict=False):
        mask = np.zeros(shard.count, bool)
        mask[numbers[(numbers >= start) & (numbers < start + shard.count)] - start] = True
        masks.append(mask)
    found, shards = index.search_vectors(vector, len(numbers), masks)
    return number_rows(index, found.rows, shards)[0], found.vectors[0], found.scores[0]


def number_rows(index: OpenIndex, rows: Numbers, shards: Numbers) -> Numbers:
    """Return the numbers in the whole index of rows (m, k) of shards (m, k). -1 stays."""
    numbers: Numbers = np.where(rows < 0, -1, rows + index.starts[shards])
    return numbers


def find_shards(index: OpenIndex, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rows (m, k) and the shards (m, k) of numbers in the whole index. -1 stays."""
    shards = np.searchsorted(index.starts, numbers.clip(0), side="right") - 1
    return np.where(numbers < 0, -1, numbers - index.starts[shards]), shards


def join_masks(index: OpenIndex, masks: Sequence[Mask | None]) -> Mask | None:
    """Return one mask over the rows of all shards, or None if all rows are kept."""
    if all(mask is None for mask in masks):
        return None
    counts = [shard.count for shard in index.shards]
    return np.concatenate(
        [np.ones(count, bool) if mask is None else mask for count, mask in zip(counts, masks, strict=True)]
    )
