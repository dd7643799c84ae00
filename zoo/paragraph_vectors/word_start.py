"""Word vectors of a small corpus: they start from latent semantic analysis (LSA), and keep a part of it after training.

A small corpus has too few words for gradient steps to lead far from where they start. A truncated singular value decomposition
of TF-IDF needs no steps, and compares short texts better than a training on few words. A training finds topics better than LSA
does. So the trained vectors are averaged with those of LSA, which weigh more the fewer words there are.

Source: Deerwester et al., "Indexing by Latent Semantic Analysis", 1990. Unlike there, all words start with
vectors of the same length, so that those of rare words are as long as others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zoo.ops import lsa
from zoo.paragraph_vectors.corpus import Batch

Array = npt.NDArray[np.float32]

LENGTH = 0.5  # of a vector: gradient steps of a few passes can still turn it
BALANCED_WORDS = 5000  # words of a corpus in which LSA and training weigh the same
MIN_SHARE = 0.25  # of LSA


def decompose(batch: Batch, words: int, dim: int, seed: int) -> lsa.Lsa:
    """Decompose the TF-IDF of all documents of a corpus with so many words in its vocabulary."""
    return lsa.decompose(_count_words(batch, words), dim, seed)


def compute_start(decomposition: lsa.Lsa) -> Array:
    """Compute (words, dim) vectors of length LENGTH, whose directions are the axes of LSA times the singular values."""
    scaled = decomposition.axes * decomposition.sizes
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    vectors: Array = (LENGTH * scaled / np.maximum(lengths, 1e-12) * (lengths > 1e-9)).astype(np.float32)
    return vectors


def choose_share(words: int) -> float:
    """Choose the share of LSA in the vectors of a corpus of so many words, from 1 for none to MIN_SHARE."""
    return max(MIN_SHARE, BALANCED_WORDS / (BALANCED_WORDS + words))


def blend(axes: Array, trained: Array, batch: Batch, weights: Array, share: float) -> Array:
    """Average the `axes` of LSA with the directions of `trained` vectors, (words, dim) each, by `share` and 1 - `share`.

    Both are scaled first so that the sum of the words of a document, with `weights` (words,), has the same mean length. The
    result (words, dim) has the mean length of `trained`. Unlike trained vectors, its rows differ in length with a meaning:
    LSA gives words that it knows little of short vectors.
    """
    counts = _count_words(batch, len(axes)) @ sparse.diags(weights)
    lengths = np.linalg.norm(trained, axis=1, keepdims=True)
    parts = (axes, trained / np.maximum(lengths, 1e-12))
    sizes = [max(float(np.linalg.norm(counts @ part, axis=1).mean()), 1e-12) for part in parts]
    blended = share / sizes[0] * parts[0] + (1 - share) / sizes[1] * parts[1]
    scale = lengths.mean() / max(float(np.linalg.norm(blended, axis=1).mean()), 1e-12)
    result: Array = (blended * scale).astype(np.float32)
    return result


def _count_words(batch: Batch, words: int) -> sparse.csr_matrix:
    """Count the words of each document, (documents, words)."""
    return lsa.count_words(batch.tokens, np.append(batch.starts, len(batch.tokens)), words)
