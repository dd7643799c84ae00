"""Topics from keywords: a vector for each label, and what a document's distance to it says.

Source: Schopf et al., "Lbl2Vec: An Embedding-Based Approach for Unsupervised Document Retrieval on Predefined Topics",
arXiv 2210.06023, section 3: the documents most similar to a label's keywords, without the outliers among them, decide
where the label is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

TEMPERATURE = 0.05


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of (n, d) at length one; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def nearest(
    documents: np.ndarray, keywords: np.ndarray, *, threshold: float | None, least: int, most: int
) -> np.ndarray:
    """Positions of the documents that stand for a label, most similar first.

    Args:
        documents: (n, d) unit rows; keywords: (k, d) unit rows, whose mean they are compared with.
        threshold: cosine from which a document counts; None for every document.
        least, most: how many there are at least, whatever the threshold, and at most.
    """
    similar = documents @ unit(keywords.mean(0, keepdims=True))[0]
    order = np.argsort(-similar, kind="stable")
    enough = len(order) if threshold is None else int((similar >= threshold).sum())
    return order[: min(max(enough, least), most, len(order))]


def without_outliers(vectors: np.ndarray) -> np.ndarray:
    """Mask (n,) of the rows of (n, d) that local outlier factor, over 20 neighbours or fewer, calls inliers."""
    from sklearn.neighbors import LocalOutlierFactor

    if len(vectors) < 3:  # nothing stands out among two
        return np.ones(len(vectors), dtype=bool)
    neighbours = min(20, len(vectors) - 1)
    return LocalOutlierFactor(n_neighbors=neighbours, metric="cosine").fit_predict(vectors) == 1


def confidence(similarities: np.ndarray) -> np.ndarray:
    """Softmax over labels (n, labels) of cosines at temperature 1/20, the sharpness of the original implementation."""
    scaled = similarities / TEMPERATURE
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def close_words(word: str, known: Sequence[str], count: int = 3) -> list[str]:
    """Words of a vocabulary that look like `word`, for one that is not in it: by spelling, the best first."""
    import difflib

    return difflib.get_close_matches(word, known, count, 0.6)
