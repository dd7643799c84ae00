"""BM25 over the texts of an index, and the fusion of its ranking with that of the encoder.

Sources: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; Cormack, Clarke and Büttcher,
"Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods", SIGIR 2009, equation 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.index.arrays import Mask, Numbers, Vectors

if TYPE_CHECKING:
    from zoo.index.rows import Layout
    from zoo.index.shard import Shard

RANK_CONSTANT = 60  # of Cormack et al.
DEPTH = 100
"""Ranks of each ranking that are joined."""
_WORD = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, in order."""
    return _WORD.findall(text.lower())


def find_words(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Return the words of a text in lower case, each with its first character and the one after its last."""
    return [(match[0].lower(), match.span()) for match in _WORD.finditer(text)]


class Lexical:
    """BM25 over all rows of shards, with the parameters k1 = 1.5 and b = 0.75."""

    def __init__(self, layout: Layout, shards: Sequence[Shard]) -> None:
        import bm25s

        words = [
            split_words(layout.join_texts(row))
            for shard in shards
            for batch in shard.iterate_rows(list(layout.texts))
            for row in batch.to_pylist()
        ]
        self.count = len(words)
        self._vocabulary = {word for text in words for word in text}
        self._bm25: Any = bm25s.BM25()
        if self._vocabulary:
            self._bm25.index(words, show_progress=False)

    def search(self, queries: Sequence[str], k: int, allowed: Mask | None) -> tuple[Vectors, Numbers]:
        """Return scores and numbers of rows (m, k), the best first. Rows without a word of the query are -1."""
        scores = np.zeros((len(queries), k), np.float32)
        numbers = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            words = [word for word in dict.fromkeys(split_words(query)) if word in self._vocabulary]
            if not words:
                continue
            own = np.asarray(self._bm25.get_scores(words), np.float32)
            if allowed is not None:
                own = np.where(allowed, own, 0)
            best = np.argpartition(-own, min(k, len(own) - 1))[:k]
            best = best[own[best] > 0]
            best = best[np.lexsort((best, -own[best]))]
            scores[place, : len(best)], numbers[place, : len(best)] = own[best], best
        return scores, numbers


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
