"""InfoNCE over candidates of which several may be right. Pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy
from zoo.ops.losses import cosines

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch, F = lazy("torch"), lazy("torch.nn.functional")


def infonce(
    queries: torch.Tensor, candidates: torch.Tensor, masked: torch.Tensor, temperature: float = 0.02
) -> torch.Tensor:
    """Mean over queries (n, d) of -log softmax(cos / τ) at candidate i of (m, d), m ≥ n, of which the n positives come first.

    `masked` (n, m) is true where a candidate must not count as a negative: it is missing, or right for the query as well; its
    diagonal is false. Source: van den Oord et al., arXiv 1807.03748, equation 4; VLM2Vec, arXiv 2410.05160, equation 1.
    """
    logits = (cosines(queries, candidates) / temperature).masked_fill(masked, float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


def also_right(queries: torch.Tensor, candidates: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """What `infonce` must mask (n, m), from keys of content: `queries` (n,) and `candidates` (m,) int64, equal for equal inputs.

    A candidate is right for query i if it equals the positive of i, or is the positive of a query equal to i; those not
    `present` (m,) are missing."""
    n = len(queries)
    equal = queries[:, None] == queries[None, :]
    right = candidates[:n][:, None] == candidates[None, :]
    right = (equal.float() @ right.float()) > 0  # also what is right for a query that says the same
    masked = right | ~present[None, :]
    masked[torch.arange(n), torch.arange(n)] = False
    return masked
