"""Triplet losses: a positive must be nearer to its anchor than a negative, by a margin.

Each loss takes distances as `distances` defines them: cosine by default, so that a margin is one of cosines. `margin` None is
the soft margin: softplus(d(anchor, positive) - d(anchor, negative)), which goes on pulling after a margin would be reached.

Mining says which negatives count:

- `hard`: the nearest negative of each anchor.
- `semi-hard`: the nearest negative that is farther away than the positive; if there is none, the farthest negative.
- `all`: every negative. With a margin, the mean is over the triplets that violate it.

Source: Schroff et al. 2015, FaceNet, arXiv 1503.03832, section 3.2. Batch mining and soft margin: Hermans et al. 2017,
arXiv 1703.07737, section 2.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from zoo.ops.distances import Metric, compute_distances, compute_paired_distances

Mining = Literal["hard", "semi-hard", "all"]
MARGIN = 0.2


def compute_triplet_loss(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    margin: float | None = MARGIN,
    metric: Metric = "cosine",
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Triplet loss of rows with negatives of their own: the mean over all triplets.

    Args:
        anchors, positives: (n, d).
        negatives: (n, d) or (k, n, d), the negatives of the same row.
        margin: None for the soft margin.
        present: (n,) or (k, n) bool, false for a negative that is missing. Default: all are present.
    """
    differences = compute_paired_distances(anchors, positives, metric) - compute_paired_distances(
        anchors, negatives, metric
    )
    violations = _compute_violations(differences, margin)
    return _average(violations, torch.ones_like(violations, dtype=torch.bool) if present is None else present)


def compute_mined_triplet_loss(
    anchors: torch.Tensor,
    candidates: torch.Tensor,
    margin: float | None = MARGIN,
    metric: Metric = "cosine",
    mining: Mining = "hard",
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Triplet loss with negatives from the whole batch. An anchor without a negative does not count.

    Args:
        anchors: (n, d).
        candidates: (m, d) with m >= n: first the n positives, then the hard negatives of all rows.
        margin: None for the soft margin.
        mask: (n, m) bool, true for a candidate that must not count as a negative; see `false_negatives`.
    """
    distances = compute_distances(anchors, candidates, metric)
    is_negative = torch.ones_like(distances, dtype=torch.bool) if mask is None else ~mask
    is_negative.fill_diagonal_(False)
    own = distances.diagonal()[:, None]
    return _compute_mined(distances, own, torch.ones_like(own, dtype=torch.bool), is_negative, margin, mining)


def compute_class_triplet_loss(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    margin: float | None = MARGIN,
    metric: Metric = "cosine",
    mining: Mining = "hard",
) -> torch.Tensor:
    """Triplet loss of labelled rows: rows of the same class are positives, all others are negatives.

    With `hard` the positive of an anchor is the farthest row of its class; else every row of its class is one. A row does not
    count as an anchor if its class has no other row, or if there is no other class.

    Args:
        vectors: (n, d).
        labels: (n,) int64.
        margin: None for the soft margin.
    """
    distances = compute_distances(vectors, vectors, metric)
    is_same = labels[:, None] == labels[None, :]
    is_positive = is_same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if mining == "hard":
        has_positive = is_positive.any(1, keepdim=True)
        farthest = distances.masked_fill(~is_positive, -torch.inf).amax(1, keepdim=True)
        return _compute_mined(distances, farthest, has_positive, ~is_same, margin, mining)
    return _compute_mined(distances, distances, is_positive, ~is_same, margin, mining)


def _compute_mined(
    distances: torch.Tensor,
    positive_distances: torch.Tensor,
    is_positive: torch.Tensor,
    is_negative: torch.Tensor,
    margin: float | None,
    mining: Mining,
) -> torch.Tensor:
    """Average the violations of the triplets that `mining` chooses.

    Args:
        distances: (n, m), of the anchors to the candidates.
        positive_distances, is_positive: (n, p), of the anchors to their positives, and which of these count.
        is_negative: (n, m) bool.
    """
    is_anchor = is_negative.any(1)
    distances, is_negative = distances[is_anchor], is_negative[is_anchor]
    positive_distances, is_positive = positive_distances[is_anchor], is_positive[is_anchor]
    if mining == "all":
        rows, places = is_positive.nonzero(as_tuple=True)
        differences = positive_distances[rows, places][:, None] - distances[rows]
        violations = _compute_violations(differences, margin)
        counts = is_negative[rows]
        return _average(violations, counts if margin is None else counts & (violations > 0))
    if mining == "hard":
        chosen = distances.masked_fill(~is_negative, torch.inf).amin(1, keepdim=True)
    else:
        chosen = _choose_semi_hard(distances, positive_distances, is_negative)
    return _average(_compute_violations(positive_distances - chosen, margin), is_positive)


def _choose_semi_hard(
    distances: torch.Tensor, positive_distances: torch.Tensor, is_negative: torch.Tensor
) -> torch.Tensor:
    """Return the distance (n, p) of the semi-hard negative for each positive.

    Every row must have a negative, and a candidate that is none, such as the anchor's own positive.
    """
    ascending = distances.masked_fill(~is_negative, torch.inf).sort(dim=1).values
    places = torch.searchsorted(ascending.detach(), positive_distances.detach(), right=True)
    nearest_outside = ascending.gather(1, places)
    farthest = distances.masked_fill(~is_negative, -torch.inf).amax(1, keepdim=True)
    return torch.where(nearest_outside.isfinite(), nearest_outside, farthest)


def _compute_violations(differences: torch.Tensor, margin: float | None) -> torch.Tensor:
    return F.softplus(differences) if margin is None else F.relu(differences + margin)


def _average(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values that count; 0 with a gradient of 0 if there are none."""
    return values.masked_fill(~counts, 0.0).sum() / counts.sum().clamp_min(1)
