"""Proto-Triplet loss of labelled rows: a row must be nearer to the mean of its class than to that of any other class."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from zoo.ops.distances import SMALLEST_SQUARE, compute_paired_distances, compute_smooth_distances

MARGIN = 0.5


def compute_prototypes(vectors: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean vectors (c, d) of the classes, and their labels (c,) in ascending order.

    Args:
        vectors: (n, d).
        labels: (n,) int64.
    """
    classes, places = torch.unique(labels, return_inverse=True)
    sums = vectors.new_zeros(len(classes), vectors.shape[1]).index_add(0, places, vectors)
    return sums / places.bincount(minlength=len(classes))[:, None], classes


def compute_proto_triplet_loss(
    queries: torch.Tensor,
    query_labels: torch.Tensor,
    supports: torch.Tensor,
    support_labels: torch.Tensor,
    margin: float = MARGIN,
    normalize: bool = True,
) -> torch.Tensor:
    """Mean over the queries of max(0, ‖z - p_y‖ - min over c ≠ y of ‖z - p_c‖ + margin), for an episode.

    p_c is the mean of the supports of class c, and y the class of the query z. A query does not count if its class or every
    other class has no supports.

    Args:
        queries: (q, d).
        query_labels: (q,) int64.
        supports: (s, d).
        support_labels: (s,) int64.
        normalize: give all rows unit norm first. Without it, larger vectors reach any margin.

    Source: "SuSana Distancia", arXiv 2305.09062; `normalize` is not theirs.
    """
    if normalize:
        queries, supports = F.normalize(queries, dim=-1), F.normalize(supports, dim=-1)
    prototypes, classes = compute_prototypes(supports, support_labels)
    distances = compute_smooth_distances(queries, prototypes)
    is_own = query_labels[:, None] == classes[None, :]
    return _average_violations(distances, is_own, ~is_own, margin)


def compute_batch_proto_triplet_loss(
    vectors: torch.Tensor, labels: torch.Tensor, margin: float = MARGIN, normalize: bool = True
) -> torch.Tensor:
    """Proto-Triplet loss of a batch without episodes: every row is a query, and all other rows are the supports.

    The mean of a row's own class leaves the row itself out. A row without another row of its class, or without a row of
    another class, does not count as a query.

    Args:
        vectors: (n, d).
        labels: (n,) int64.
        margin, normalize: as in `compute_proto_triplet_loss`.
    """
    if normalize:
        vectors = F.normalize(vectors, dim=-1)
    prototypes, classes = compute_prototypes(vectors, labels)
    places = torch.searchsorted(classes, labels)
    is_own = F.one_hot(places, len(classes)).bool()
    counts = is_own.sum(0)[places][:, None]
    own = (prototypes[places] * counts - vectors) / (counts - 1).clamp_min(1)
    distances = compute_smooth_distances(vectors, prototypes)
    own_distances = (compute_paired_distances(vectors, own, "euclidean").pow(2) + SMALLEST_SQUARE).sqrt()
    distances = torch.where(is_own, own_distances[:, None], distances)
    return _average_violations(distances, is_own & (counts > 1), ~is_own, margin)


def _average_violations(
    distances: torch.Tensor, is_positive: torch.Tensor, is_other: torch.Tensor, margin: float
) -> torch.Tensor:
    """Average max(0, own - nearest other + margin) over the rows of `distances` (n, c) that have both."""
    is_query = is_positive.any(1) & is_other.any(1)
    own = distances.masked_fill(~is_positive, 0.0).sum(1)[is_query]
    nearest = distances.masked_fill(~is_other, torch.inf).amin(1)[is_query]
    return F.relu(own - nearest + margin).sum() / is_query.sum().clamp_min(1)
