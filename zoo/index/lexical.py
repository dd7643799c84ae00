"""BM25 over the texts of an index, and the fusion of its ranking with that of the encoder.

Sources: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, in the form of Lucene, as in
Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020, table 1. Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms
Condorcet and Individual Rank Learning Methods", SIGIR 2009, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zoo.index.arrays import Mask, Numbers, Vectors
from zoo.index.words import ShardWords, split_words

K1, B = 1.5, 0.75
RANK_CONSTANT = 60  # of Cormack et al.
DEPTH = 100
"""Ranks of each ranking that are joined."""


class Lexical:
    """BM25 over all rows of shards, with the parameters k1 = 1.5 and b = 0.75, and the scores of bm25s.

    Attributes:
        count: the number of rows, those included that were removed and not yet cleared away.
    """

    def __init__(self, shards: Sequence[ShardWords]) -> None:
        self._shards = shards
        lengths = [shard.lengths for shard in shards]
        self._starts = np.cumsum([0, *(len(own) for own in lengths)])
        self.count = int(self._starts[-1])
        joined = np.concatenate([np.empty(0, np.int32), *lengths])
        mean = max(float(joined.mean()), 1e-9) if self.count else 1.0
        self._norms = K1 * (1 - B + B * joined / mean)

    def compute_scores(self, query: str) -> Vectors:
        """Return the scores (rows,) float32 of all rows. A word counts once, however often the query has it."""
        scores = np.zeros(self.count, np.float32)
        for word in dict.fromkeys(split_words(query)):
            found = [shard.find(word) for shard in self._shards]
            row_count = sum(len(rows) for rows, _ in found)
            weight = np.float32(math.log(1 + (self.count - row_count + 0.5) / (row_count + 0.5)))
            for start, (rows, counts) in zip(self._starts, found, strict=False):
                places = start + rows
                scores[places] += (weight * (counts / (self._norms[places] + counts))).astype(np.float32)
        return scores

    def search(self, queries: Sequence[str], k: int, allowed: Mask | None) -> tuple[Vectors, Numbers]:
        """Return scores and numbers of rows (m, k), the best first. Rows without a word of the query are -1."""
        scores = np.zeros((len(queries), k), np.float32)
        numbers = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            best, own = self.select(self.compute_scores(query), k, allowed)
            scores[place, : len(best)], numbers[place, : len(best)] = own, best
        return scores, numbers

    def select(self, scores: Vectors, k: int, allowed: Mask | None) -> tuple[Numbers, Vectors]:
        """Return the numbers of at most k rows with the best scores above 0, the best first, and their scores."""
        if allowed is not None:
            scores = np.where(allowed, scores, np.float32(0))
        if not len(scores):
            return np.empty(0, np.int64), scores
        best = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
        best = best[scores[best] > 0]
        best = best[np.lexsort((best, -scores[best]))]
        return best, scores[best]


def fuse(rankings: Sequence[Numbers], k: int) -> tuple[Vectors, Numbers]:
    """Join rankings (m, r) of row numbers by the sum of 1 / (60 + rank).

    Return scores and numbers (m, k), the best first. -1 stands for nothing.
    """
    count = len(rankings[0])
    scores = np.full((count, k), -np.inf, np.float32)
    numbers = np.full((count, k), -1, np.int64)
    for query in range(count):
        sums: dict[int, float] = {}
        for ranking in rankings:
            for rank, number in enumerate(ranking[query].tolist(), 1):
                if number >= 0:
                    sums[number] = sums.get(number, 0.0) + 1 / (RANK_CONSTANT + rank)
        best = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:k]
        for place, (number, score) in enumerate(best):
            numbers[query, place], scores[query, place] = number, score
    return scores, numbers
