"""Where the map to a fixed basis begins on a pretrained backbone: turned so that each class points to its vector.

What is near in the backbone's space stays as near, and the class vectors' arbitrary places do not have to be learned against it.
"""

from __future__ import annotations

import torch


def towards(features: torch.Tensor, gold: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (d, width) and bias (d,) of the map x ↦ R(x - mean) whose R, a rotation where d = width and the nearest there is
    to one otherwise, brings the classes' mean features nearest to their vectors.
    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966.

    Args:
        features: (n, width) float; gold: (n,) int64, classes, of which some may be missing; vectors: (classes, d) unit rows.
    """
    centre = features.mean(0)
    counts = torch.bincount(gold, minlength=len(vectors)).clamp(min=1)
    means = torch.zeros(len(vectors), features.shape[1]).index_add(0, gold, features - centre) / counts[:, None]
    left, _, right = torch.linalg.svd(means.T @ vectors, full_matrices=False)
    rotation = (left @ right).T
    return rotation, -rotation @ centre
