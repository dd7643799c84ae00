"""How well scores rank what is relevant: nDCG, average precision, area under the ROC curve, all in one pass over the order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")


class Quality(NamedTuple):
    """Means over the queries that have both relevant and other documents."""

    ndcg: float
    map: float
    auc: float


def quality(scores: np.ndarray, relevant: np.ndarray, top: int = 10) -> Quality:
    """nDCG@`top`, MAP and AUC of (q, n) scores, higher is better, where `relevant` (q, n) is true. Equal scores stand in the
    order of the documents, of which AUC counts half."""
    ndcg, precision, area = [], [], []
    discounts = 1 / np.log2(np.arange(2, top + 2))
    for row, good in zip(scores, relevant, strict=True):
        count = int(good.sum())
        if not 0 < count < len(good):
            continue
        found = good[np.argsort(-row, kind="stable")]
        ndcg.append(float(discounts[found[:top].nonzero()[0]].sum() / discounts[:count].sum()))
        places = found.nonzero()[0] + 1
        precision.append(float((np.arange(1, count + 1) / places).mean()))
        # ranks from below, equal scores sharing theirs
        _, inverse, sizes = np.unique(row, return_inverse=True, return_counts=True)
        ranks = np.cumsum(sizes) - (sizes - 1) / 2
        others = len(good) - count
        area.append(float((ranks[inverse][good].sum() - count * (count + 1) / 2) / (count * others)))
    return Quality(*(float(np.mean(each)) if each else 0.0 for each in (ndcg, precision, area)))
