"""Vectors of subwords that compare texts by their words before any training, as LSA and TF-IDF do.

The vector of a subword has two parts. The first is that of latent semantic analysis (LSA): words that occur in the same texts are
near to each other. The second is a random vector that stands for the subword alone. Together they have length 1. The cosine of
the sums of two texts' subwords is then about that of TF-IDF (Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into
a Hilbert space", 1984), and a subword that no training text has can still be recognised.

With a smaller weight of the second part, texts are compared by topics more, and by equal words less. Short questions are better
compared by topics, and names and titles by equal words. In sesa, held-out pairs choose between the two WEIGHTS.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from zoo.ops import lsa
from zoo.text.subwords import SPECIAL

DIM = 1024  # components of both parts; fewer random ones would blur the cosine
WEIGHTS = (0.5, 1.0)  # of the second part; the first one is taken if nothing can be chosen
ANALYSED_SHARE = 0.25  # of the components, which are those of LSA
UNSEEN_WEIGHT = 0.25  # of a subword that no text has, as a part of the weight of one that is in a single text
MAX_TEXTS = 50_000  # that LSA reads


def count_analysed(dim: int) -> int:
    """Return how many of `dim` components are those of LSA."""
    return int(ANALYSED_SHARE * dim)


def compute_table(
    ids: Sequence[Sequence[int]], vocab_size: int, dim: int, weight: float, seed: int, *, analysed: int | None = None
) -> torch.Tensor:
    """Compute the vectors (vocab_size, dim) float32 of all subwords from the ids of texts.

    A vector is multiplied by the inverse document frequency of its subword. The special subwords have vectors of zeros. Not more
    than the first MAX_TEXTS texts are read.

    Args:
        weight: that of the second part.
        analysed: components of LSA; those of `count_analysed` if it is None. If it is `dim`, there is no second part.
    """
    rows = ids[:MAX_TEXTS]
    analysed = count_analysed(dim) if analysed is None else analysed
    ends = np.cumsum([0, *map(len, rows)])
    tokens = np.fromiter(chain.from_iterable(rows), np.int32, count=int(ends[-1]))
    axes = lsa.decompose(lsa.count_words(tokens, ends, vocab_size), analysed, seed).axes
    vectors = np.random.default_rng(seed).standard_normal((vocab_size, dim - analysed)).astype(np.float32)
    rest = np.sqrt(np.clip(1 - np.square(axes).sum(1), 0, 1)) / np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    vectors *= weight * rest[:, None]
    table = np.concatenate([axes, vectors], axis=1) * _compute_rarity(rows, vocab_size)[:, None]
    table[: len(SPECIAL)] = 0
    return torch.from_numpy(table.astype(np.float32))


def scale_second_part(table: torch.Tensor, factor: float) -> None:
    """Multiply the weight of the second part of a table by `factor`, in place."""
    table[:, count_analysed(table.shape[1]) :] *= factor


def _compute_rarity(rows: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray:
    """Compute the smoothed inverse document frequency of each subword, (vocab_size,), as scikit-learn does."""
    counts = np.bincount([i for row in rows for i in set(row)], minlength=vocab_size)
    weights: np.ndarray = np.log((1 + len(rows)) / (1 + counts)) + 1
    return np.where(counts > 0, weights, UNSEEN_WEIGHT * weights)
