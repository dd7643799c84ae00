"""Similarities of vectors: cosines, dot products, and negative Hamming distances of packed codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.ops import codes


def compute_similarities(name: str, a: Any, b: Any) -> torch.Tensor:
    """Return the similarity (n, m) of each row of `a` with each row of `b`.

    Args:
        name: "cosine", "dot" for the product of vectors as they are, or "hamming" for packed codes, whose similarity is the
            negative distance in bits.
        a: (n, d) vectors or (n, bytes) codes, or one of them, as an array, a tensor or a list.
        b: the same with m rows.
    """
    left, right = _as_rows(name, a), _as_rows(name, b)
    _require_equal_width(left, right)
    if name == "hamming":
        return -torch.from_numpy(codes.compute_hamming_distances(left.numpy(), right.numpy())).float()
    if name == "dot":
        return left @ right.T
    return torch.nn.functional.normalize(left, dim=-1) @ torch.nn.functional.normalize(right, dim=-1).T


def compute_pairwise_similarities(name: str, a: Any, b: Any) -> torch.Tensor:
    """Return the similarity (n,) of each row of `a` with the same row of `b`; see `compute_similarities`."""
    left, right = _as_rows(name, a), _as_rows(name, b)
    _require_equal_width(left, right)
    if len(left) != len(right):
        raise ZooError(f"pairs need as many rows on both sides, not {len(left)} and {len(right)}")
    if name == "hamming":
        distances = np.bitwise_count(left.numpy() ^ right.numpy()).sum(axis=1, dtype=np.int32)
        return -torch.from_numpy(distances).float()
    if name == "dot":
        return (left * right).sum(-1)
    return torch.nn.functional.cosine_similarity(left, right, dim=-1)


def _as_rows(name: str, vectors: Any) -> torch.Tensor:
    """Return vectors as (n, d) float32, and codes as (n, bytes) uint8 on the CPU."""
    if isinstance(vectors, list | tuple) and vectors and isinstance(vectors[0], torch.Tensor):
        vectors = torch.stack(list(vectors))
    try:
        rows = vectors if isinstance(vectors, torch.Tensor) else torch.as_tensor(np.asarray(vectors))
    except (TypeError, ValueError):
        raise ZooError(
            f"similarities are computed of vectors, not of {type(vectors).__name__}: encode texts first"
        ) from None
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise ZooError(f"similarities are computed of vectors (n, d), not of an array of shape {tuple(rows.shape)}")
    if name != "hamming":
        return rows.float()
    if rows.dtype != torch.uint8:
        raise ZooError(
            f"Hamming distances are computed of packed uint8 codes, not of {rows.dtype}: take what `encode` gives"
        )
    return rows.cpu()


def _require_equal_width(left: torch.Tensor, right: torch.Tensor) -> None:
    if left.shape[1] != right.shape[1]:
        raise ZooError(
            f"the two sides have vectors of {left.shape[1]} and {right.shape[1]} components; use one encoder"
        )
