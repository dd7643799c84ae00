"""InfoNCE over candidates of which several may be right. Pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy
from zoo.ops.losses import compute_cosines

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
    logits = (
        compute_cosines(queries, candidates).div_(temperature).masked_fill_(masked, float("-inf"))
    )  # in place: it is (n, m)
    return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


def false_negative_mask(queries: torch.Tensor, candidates: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """What `infonce` must mask (n, m), from keys of content: `queries` (n,) and `candidates` (m,) int64, equal for equal inputs.

    A candidate is right for query i if it equals the positive of i, or is the positive of a query equal to i; those not
    `present` (m,) are missing."""
    n = len(queries)
    _, asked = torch.unique(queries, return_inverse=True)
    _, given = torch.unique(candidates, return_inverse=True)
    right = torch.zeros(int(asked.max()) + 1, int(given.max()) + 1, dtype=torch.bool, device=queries.device)
    right[asked, given[:n]] = True  # of what was asked, whoever asked it
    masked = right[asked][:, given] | ~present[None, :]
    masked[torch.arange(n), torch.arange(n)] = False
    return masked
