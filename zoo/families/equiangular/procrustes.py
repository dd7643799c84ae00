"""The start of the projection on a pretrained backbone: a rotation that points each class to its vector.

A rotation keeps the distances of the backbone's space, and training does not have to find the class vectors' arbitrary
directions first.
"""

from __future__ import annotations

import torch


def fit_rotation(
    features: torch.Tensor, class_ids: torch.Tensor, vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the map x ↦ R(x - mean) that brings the classes' mean features nearest to their vectors.

    R is a rotation if d = width, and otherwise has orthonormal rows or columns.
    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966.

    Args:
        features: (n, width) float.
        class_ids: (n,) int64. Some classes may have no rows.
        vectors: (classes, d) unit rows.

    Returns weight (d, width) and bias (d,) of a linear layer.
    """
    centre = features.mean(0)
    counts = torch.bincount(class_ids, minlength=len(vectors)).clamp(min=1)
    sums = torch.zeros(len(vectors), features.shape[1]).index_add(0, class_ids, features - centre)
    means = sums / counts[:, None]
    left, _, right = torch.linalg.svd(means.T @ vectors, full_matrices=False)
    rotation = (left @ right).T
    return rotation, -rotation @ centre
