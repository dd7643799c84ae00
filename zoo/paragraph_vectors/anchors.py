"""Anchors: a few vectors that stand for a whole collection, and the pull of other vectors towards those near them.

Source: Liu et al., "Hashing with Graphs", ICML 2011, section 3.1: the neighbourhood of any vector, one of the collection or
not, is told by its nearness to anchors, so that neither the collection nor a graph of it need be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

ROUNDS = 10
TEMPERATURE = 0.05
SHARE = 0.5


def centres(rows: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """(count, d) unit vectors, count <= n: spherical k-means of unit `rows` (n, d) from `count` of them drawn by `seed`. One to
    which no row is nearest stays where it is."""
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    found = rows[drawn.to(rows.device)]
    for _ in range(ROUNDS):
        nearest = torch.cat([(some @ found.T).argmax(1) for some in rows.split(4096)])
        sums = torch.zeros_like(found).index_add_(0, nearest, rows)
        held = sums.norm(dim=1, keepdim=True)
        found = torch.where(held > 0, sums / held.clamp(min=1e-12), found)
    return found


def pulled(rows: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Unit vectors (n, d) between unit `rows` (n, d) and the mean of the `anchors` (k, d), weighted by a softmax of the cosines
    at temperature 1/20."""
    means = torch.softmax(rows @ anchors.T / TEMPERATURE, dim=1) @ anchors
    normal = torch.nn.functional.normalize
    return normal((1 - SHARE) * rows + SHARE * normal(means, dim=1), dim=1)
