"""Topics from keywords: the vector of each label, and how confident a document's similarities to the labels are.

Source: Schopf et al., "Lbl2Vec: An Embedding-Based Approach for Unsupervised Document Retrieval on Predefined Topics",
arXiv 2210.06023, section 3. The documents most similar to a label's keywords, without outliers, decide the vector of the label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TEMPERATURE = 0.05


def normalise(vectors: Array) -> Array:
    """Scale the rows of (n, d) to length 1; a row of zeros stays."""
    unit_vectors: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit_vectors


def select_documents(
    documents: Array, keywords: Array, *, threshold: float | None, min_docs: int, max_docs: int
) -> Array:
    """Select the documents that define a label: their positions, the most similar first.

    Args:
        documents: (n, d) unit rows.
        keywords: (k, d) unit rows; documents are compared with their mean.
        threshold: lowest cosine of a document; None for no threshold.
        min_docs, max_docs: limits of the number of documents; `min_docs` applies whatever the threshold.
    """
    cosines = documents @ normalise(keywords.mean(0, keepdims=True))[0]
    order = np.argsort(-cosines, kind="stable")
    count = len(order) if threshold is None else int((cosines >= threshold).sum())
    selected: Array = order[: min(max(count, min_docs), max_docs, len(order))]
    return selected


def find_inliers(vectors: Array) -> Array:
    """Return a mask (n,) of the rows of (n, d) that local outlier factor over at most 20 neighbours calls inliers."""
    from sklearn.neighbors import LocalOutlierFactor

    if len(vectors) < 3:  # with two vectors, neither is an outlier
        return np.ones(len(vectors), dtype=bool)
    neighbours = min(20, len(vectors) - 1)
    is_inlier: Array = LocalOutlierFactor(n_neighbors=neighbours, metric="cosine").fit_predict(vectors) == 1
    return is_inlier


def compute_confidences(cosines: Array) -> Array:
    """Compute a softmax over the labels of `cosines` (n, labels) at temperature 1/20, as the original implementation does."""
    scaled = cosines / TEMPERATURE
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    confidences: Array = powers / powers.sum(axis=1, keepdims=True)
    return confidences
