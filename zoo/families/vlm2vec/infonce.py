"""InfoNCE with a mask for false negatives. Pure functions of tensors."""

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
        mask: (n, m) bool, true where a candidate must not count as a negative of a query: see `false_negative_mask`. Its
            diagonal is false.
        temperature: cosines are divided by it.

    Source: van den Oord et al., arXiv 1807.03748, equation 4; VLM2Vec, arXiv 2410.05160, equation 1.
    """
    logits = compute_cosines(queries, candidates)
    logits = logits.div_(temperature).masked_fill_(mask, float("-inf"))  # in place, because (n, m) may be large
    return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


def false_negative_mask(query_keys: torch.Tensor, candidate_keys: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return the mask (n, m) of candidates that must not count as negatives of a query.

    These are candidates that are missing, and false negatives: candidates equal to the positive of the query, or to the
    positive of an equal query. The positive itself is not masked.

    Args:
        query_keys: (n,) int64, equal for equal queries.
        candidate_keys: (m,) int64, equal for equal candidates; the n positives come first.
        present: (m,) bool, false for a candidate that is missing.
    """
    count = len(query_keys)
    _, query_ids = torch.unique(query_keys, return_inverse=True)
    _, candidate_ids = torch.unique(candidate_keys, return_inverse=True)
    size = (int(query_ids.max()) + 1, int(candidate_ids.max()) + 1)
    is_right = torch.zeros(size, dtype=torch.bool, device=query_keys.device)
    is_right[query_ids, candidate_ids[:count]] = True  # for every query with the same key
    mask = is_right[query_ids][:, candidate_ids] | ~present[None, :]
    mask[torch.arange(count), torch.arange(count)] = False
    return mask
