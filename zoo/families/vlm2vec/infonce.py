"""InfoNCE with a mask for false negatives, as a pure function of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from zoo.ops.losses import compute_cosines


def compute_infonce(
    queries: torch.Tensor, candidates: torch.Tensor, mask: torch.Tensor, temperature: float = 0.02
) -> torch.Tensor:
    """Compute the mean over queries of -log softmax(cosines / temperature) at each query's positive.

    Args:
        queries: (n, d).
        candidates: (m, d), m ≥ n. Candidate i < n is the positive of query i; hard negatives follow.
        mask: (n, m) bool, true where a candidate must not count as a negative of a query: see `zoo.ops.false_negatives`. Its
            diagonal is false.
        temperature: cosines are divided by it.

    Source: van den Oord et al., arXiv 1807.03748, equation 4; VLM2Vec, arXiv 2410.05160, equation 1.
    """
    logits = compute_cosines(queries, candidates)
    logits = logits.div_(temperature).masked_fill_(mask, float("-inf"))  # in place, because (n, m) may be large
    return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))
