"""ICNN loss of labelled rows: the nearest neighbours of a row must be of its class and near, those of other classes far."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from zoo.ops.distances import compute_smooth_distances

NEIGHBORS = 4
SMALLEST_SQUARE = (
    1e-6  # is added to squared distances, as the authors do; the gradient stays finite between equal vectors
)
EPSILON = 1e-7  # is added to denominators, as the authors do
SMALLEST_SCORE = (
    1e-4  # a lower score counts as this one, or the first steps from random weights would have huge gradients
)


def compute_icnn_score(
    vectors: torch.Tensor, labels: torch.Tensor, neighbors: int = NEIGHBORS, reach: int | None = None
) -> torch.Tensor:
    """Return the ICNN score of labelled rows, a scalar in [0, 1]: (½(Λ_same + Λ_other) + Γ) / 2.

    - Λ_same: 1 minus the mean ratio of the distance to a near row of the own class and that to the nearest row of another
      class. The ratios of a row are divided by their largest if that is above 1. A ratio is 0 if the row has no row of another
      class within reach.
    - Λ_other: mean distance to a near row of another class, divided by the largest of these distances; 1 if there are none.
    - Γ: share of the own class among the nearest rows. It is a count, so it has no gradient.

    Both means are over the rows, of the mean of each row that has such neighbours.

    Args:
        vectors: (n, d).
        labels: (n,) int64.
        neighbors: the nearest rows of each row that count; at most n - 1 do.
        reach: number of nearest rows among which the nearest row of another class is looked for, at least `neighbors`.
            Default: the number of rows of the largest class, as in the authors' "fullicnn", so that every row finds one.

    Source: the authors' code of "SuSana Distancia", arXiv 2305.09062; the score is that of García Ramírez, arXiv 2107.06992,
    without its third term Ω, which the code leaves out. The authors take the first neighbour for the row itself, which fails
    for equal rows; here the row itself is left out.
    """
    count = len(vectors)
    if count < 2:
        return vectors.sum() * 0 + 1
    distances = compute_smooth_distances(vectors, vectors)
    is_self = torch.eye(count, dtype=torch.bool, device=vectors.device)
    neighbors = min(neighbors, count - 1)
    if reach is None:
        reach = int(torch.unique(labels, return_counts=True)[1].max())
    near, places = distances.masked_fill(is_self, torch.inf).topk(min(max(reach, neighbors), count - 1), largest=False)
    is_same = labels[places] == labels[:, None]
    nearest_other = near.masked_fill(is_same, torch.inf).amin(1, keepdim=True)
    near, is_same = near[:, :neighbors], is_same[:, :neighbors]
    ratios = near / (nearest_other + EPSILON)
    ratios = ratios / ratios.amax(1, keepdim=True).clamp_min(1.0)
    same = 1 - _average_rows(ratios, is_same)
    if bool(is_same.all()):
        other = torch.ones_like(same)
    else:
        largest = near.masked_fill(is_same, 0.0).max()
        other = _average_rows(near / (largest + EPSILON), ~is_same)
    return ((same + other) / 2 + is_same.to(near.dtype).mean()) / 2


def compute_icnn_loss(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    neighbors: int = NEIGHBORS,
    reach: int | None = None,
    normalize: bool = True,
) -> torch.Tensor:
    """Return -ln of the ICNN score of labelled rows, a scalar; 0 for a single row.

    Args:
        vectors: (n, d).
        labels: (n,) int64.
        neighbors, reach: as in `compute_icnn_score`.
        normalize: give all rows unit norm first; not the authors'.
    """
    if normalize:
        vectors = F.normalize(vectors, dim=-1)
    return -compute_icnn_score(vectors, labels, neighbors, reach).log()


def _average_rows(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Average the values (n, k) that count in each row, then over the rows that have any; 0 if there are none."""
    number = counts.sum(1)
    means = values.masked_fill(~counts, 0.0).sum(1) / (number + EPSILON)
    return means.sum() / ((number > 0).sum() + EPSILON)
