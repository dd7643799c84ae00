"""How well codes search: the share of the exact nearest documents, and nDCG by known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.ops import exact_search

TOP = 10

Numbers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


def search_top(queries: Array, documents: Array, own: Numbers | None = None) -> Numbers:
    """Return the numbers (m, TOP) of the documents with the highest inner products, the best first.

    `own` (m,) is the number of a document that each query equals, which is left out.
    """
    excluded = None if own is None else (np.arange(len(own)), own)
    return exact_search.search(queries, documents, TOP, excluded=excluded)[1]


def compute_recall(found: Numbers, exact: Numbers) -> float:
    """Return the mean share of the rows of `exact` (m, k) that the same row of `found` (m, k) holds."""
    shares = [len(np.intersect1d(*pair)) / exact.shape[1] for pair in zip(found, exact, strict=True)]
    return float(np.mean(shares))


def compute_ndcg(found: Numbers, answers: Numbers) -> float:
    """Return the mean nDCG of the rows of `found` (m, k), for pairs `answers` (p, 2) of a query and a document.

    Every answer has the gain 1. Queries without an answer do not count. The pairs must be distinct.
    """
    discounts = 1 / np.log2(np.arange(2, found.shape[1] + 2))
    counts = np.bincount(answers[:, 0], minlength=len(found))
    width = 1 + max(int(found.max()), int(answers[:, 1].max()))
    keys = np.arange(len(found))[:, None] * width + found
    gains = (np.isin(keys, answers[:, 0] * width + answers[:, 1]) * discounts).sum(1)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(counts, len(discounts))]
    return float((gains[counts > 0] / ideal[counts > 0]).mean())
