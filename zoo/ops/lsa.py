"""Latent semantic analysis (LSA): the truncated singular value decomposition of the TF-IDF of texts.

Source: Deerwester et al., "Indexing by Latent Semantic Analysis", 1990.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float32]

ITERATIONS = 4


class Lsa(NamedTuple):
    """The decomposition of a corpus.

    Attributes:
        axes: (words, dim) float32, the vectors that LSA sums in a text, each times the inverse document frequency of its word.
            Components beyond the rank of the decomposition are 0, and so are the vectors of words that are in no document.
        sizes: (dim,) float32, singular values.
    """

    axes: Array
    sizes: Array


def decompose(counts: sparse.csr_matrix, dim: int, seed: int) -> Lsa:
    """Decompose the TF-IDF of documents from the counts of their words, (documents, words), into `dim` components."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    axes, sizes = np.zeros((counts.shape[1], dim), np.float32), np.zeros(dim, np.float32)
    width = min(dim, min(counts.shape) - 1)
    if width < 1:
        return Lsa(axes, sizes)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    decomposition = TruncatedSVD(width, n_iter=ITERATIONS, random_state=seed).fit(weighted)
    axes[:, :width], sizes[:width] = decomposition.components_.T, decomposition.singular_values_
    return Lsa(axes, sizes)


def count_words(tokens: npt.NDArray[Any], ends: npt.NDArray[Any], words: int) -> sparse.csr_matrix:
    """Count the words of each document, (documents, words) float32.

    Args:
        tokens: (tokens,) ids of the words of all documents in a row.
        ends: (documents + 1,), where each document begins and the last one ends.
        words: the number of different words.
    """
    ones = np.ones(len(tokens), np.float32)
    # A copy, because summing sorts the words of each document in place.
    counts = sparse.csr_matrix((ones, tokens, ends), shape=(len(ends) - 1, words), copy=True)
    counts.sum_duplicates()
    return counts
