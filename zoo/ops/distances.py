"""Distances between vectors whose gradient is finite everywhere, also between equal vectors."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Metric = Literal["cosine", "euclidean"]
SMALLEST_SQUARE = 1e-6
"""Is added to squared distances by the class losses, as their authors do."""


def compute_paired_distances(a: torch.Tensor, b: torch.Tensor, metric: Metric = "cosine") -> torch.Tensor:
    """Return the distances (*) between the vectors of a and b, (*, d) each. They broadcast.

    Cosine: 1 - cosine, from 0 to 2. Euclidean: the root of the squared distance, with a gradient of 0 between equal vectors.
    """
    with torch.autocast(a.device.type, enabled=False):
        if metric == "cosine":
            return 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)
        distances: torch.Tensor = torch.linalg.vector_norm(a - b, dim=-1)
        return distances


def compute_distances(a: torch.Tensor, b: torch.Tensor, metric: Metric = "cosine") -> torch.Tensor:
    """Return the distances (n, m) between (n, d) and (m, d), as `compute_paired_distances` defines them."""
    with torch.autocast(a.device.type, enabled=False):
        if metric == "cosine":
            return 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
        # The mode with products of matrices would lose small distances to rounding.
        return torch.cdist(a.float(), b.float(), compute_mode="donot_use_mm_for_euclid_dist")


def compute_smooth_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return sqrt(squared Euclidean distance + 1e-6), (n, m) between (n, d) and (m, d), as the class losses define it."""
    return (compute_distances(a, b, "euclidean").pow(2) + SMALLEST_SQUARE).sqrt()
