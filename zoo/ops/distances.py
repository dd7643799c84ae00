"""Distances between vectors whose gradient is finite everywhere, also between equal vectors."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Metric = Literal["cosine", "euclidean"]


def compute_paired_distances(a: torch.Tensor, b: torch.Tensor, metric: Metric = "cosine") -> torch.Tensor:
    """Return the distances (*) between the vectors of a and b, (*, d) each. They broadcast.

    Cosine: 1 - cosine, from 0 to 2. Euclidean: the root of the squared distance, with a gradient of 0 between equal vectors.
    """
    with torch.autocast(a.device.type, enabled=False):
        if metric == "cosine":
            return 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)
        return _take_root((a - b).pow(2).sum(-1))


def compute_distances(a: torch.Tensor, b: torch.Tensor, metric: Metric = "cosine") -> torch.Tensor:
    """Return the distances (n, m) between (n, d) and (m, d), as `compute_paired_distances` defines them."""
    with torch.autocast(a.device.type, enabled=False):
        if metric == "cosine":
            return 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
        # The mode with products of matrices would lose small distances to rounding.
        return torch.cdist(a.float(), b.float(), compute_mode="donot_use_mm_for_euclid_dist")


def _take_root(squares: torch.Tensor) -> torch.Tensor:
    """Return the roots; at 0 the gradient is 0 instead of infinite."""
    is_zero = squares == 0
    return squares.masked_fill(is_zero, 1.0).sqrt().masked_fill(is_zero, 0.0)
