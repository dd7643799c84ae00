"""The start of word vectors in a small corpus: latent semantic analysis instead of random vectors.

A small corpus has too few words for gradient steps to lead far from where they start. A truncated singular value decomposition
of TF-IDF needs no steps.

Source: Deerwester et al., "Indexing by Latent Semantic Analysis", 1990. Unlike there, the vectors of all words have the same
length, so that rare words start with as long vectors as frequent ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors.corpus import Batch

Array = npt.NDArray[Any]

ITERATIONS = 4
LENGTH = 0.5  # of a vector: gradient steps of a few passes can still turn it


def compute_word_vectors(batch: Batch, words: int, dim: int, seed: int) -> Array:
    """Compute (words, dim) float32 vectors of length LENGTH of the words of all documents of a corpus.

    Their directions are the right singular vectors of TF-IDF, times the singular values. Components beyond the rank of the
    decomposition are 0, and so are the vectors of words that are in no document.
    """
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    vectors = np.zeros((words, dim), np.float32)
    shape = (len(batch.ends), words)
    width = min(dim, min(shape) - 1)
    if width < 1:
        return vectors
    starts = np.append(batch.starts, len(batch.tokens))
    counts = sparse.csr_matrix((np.ones(len(batch.tokens), np.float32), batch.tokens, starts), shape=shape)
    counts.sum_duplicates()
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    decomposition = TruncatedSVD(width, n_iter=ITERATIONS, random_state=seed).fit(weighted)
    scaled = decomposition.components_.T * decomposition.singular_values_
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    vectors[:, :width] = LENGTH * scaled / np.maximum(lengths, 1e-12) * (lengths > 1e-9)
    return vectors
