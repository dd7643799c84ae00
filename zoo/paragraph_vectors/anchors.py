"""Anchors: a few vectors that stand for a whole collection, and a pull of other vectors towards the anchors near them.

Source: Liu et al., "Hashing with Graphs", ICML 2011, section 3.1. The similarities to the anchors describe the neighbourhood
of any vector, also of a new one. Neither the collection nor a graph of its vectors has to be stored.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

KMEANS_ROUNDS = 10
TEMPERATURE = 0.05
PULL = 0.5  # 0 leaves a vector where it is, 1 replaces it by the mean of its anchors


def compute_anchors(vectors: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Compute `count` anchors of the unit `vectors` (n, d) by spherical k-means: (count, d) unit vectors, count <= n.

    K-means starts at vectors that are drawn by `seed`. An anchor that is not the nearest to any vector stays in its place.
    """
    start = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:count]
    anchors = vectors[start.to(vectors.device)]
    for _ in range(KMEANS_ROUNDS):
        nearest = torch.cat([(block @ anchors.T).argmax(1) for block in torch.split(vectors, 4096)])
        sums = torch.zeros_like(anchors).index_add_(0, nearest, vectors)
        lengths = sums.norm(dim=1, keepdim=True)
        anchors = torch.where(lengths > 0, sums / lengths.clamp(min=1e-12), anchors)
    return anchors


def pull_towards_anchors(vectors: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Move unit `vectors` (n, d) half-way to the mean of the `anchors` (k, d) near them; return unit vectors (n, d).

    The weights of the mean are a softmax of the cosines at temperature 1/20.
    """
    means = torch.softmax(vectors @ anchors.T / TEMPERATURE, dim=1) @ anchors
    return normalize((1 - PULL) * vectors + PULL * normalize(means, dim=1), dim=1)
