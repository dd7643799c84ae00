"""How well scores rank the relevant documents: nDCG, mean average precision, and area under the ROC curve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class RankingQuality(NamedTuple):
    """Means over the queries that have both relevant and other documents; 0 if there is no such query."""

    ndcg: float
    map: float
    auc: float


def compute_ranking_quality(scores: Array, relevant: Array, top: int = 10) -> RankingQuality:
    """Compute nDCG@`top`, MAP and AUC of scores (q, n), higher is better, for relevance (q, n) bool.

    Documents with equal scores are ranked in their order; AUC counts them half.
    """
    discounts = 1 / np.log2(np.arange(2, top + 2))
    figures = [
        _compute_query_quality(row, is_relevant, discounts)
        for row, is_relevant in zip(scores, relevant, strict=True)
        if 0 < int(is_relevant.sum()) < len(is_relevant)
    ]
    if not figures:
        return RankingQuality(0.0, 0.0, 0.0)
    return RankingQuality(*(float(np.mean(column)) for column in zip(*figures, strict=True)))


def _compute_query_quality(scores: Array, is_relevant: Array, discounts: Array) -> RankingQuality:
    count, top = int(is_relevant.sum()), len(discounts)
    ranked = is_relevant[np.argsort(-scores, kind="stable")]
    ndcg = float(discounts[ranked[:top].nonzero()[0]].sum() / discounts[:count].sum())
    ranks = ranked.nonzero()[0] + 1
    average_precision = float((np.arange(1, count + 1) / ranks).mean())
    # ranks from the lowest score up; documents with equal scores share their mean rank
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    rank_sum = mean_ranks[inverse][is_relevant].sum()
    auc = float((rank_sum - count * (count + 1) / 2) / (count * (len(is_relevant) - count)))
    return RankingQuality(ndcg, average_precision, auc)
