"""False negatives of an in-batch loss: candidates of other rows that are right for a row as well, and are masked."""

from __future__ import annotations

import hashlib

import torch


def compute_text_key(text: str) -> int:
    """Compute a 63-bit key of a text that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 1


def false_negative_mask(
    query_keys: torch.Tensor, candidate_keys: torch.Tensor, present: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mask (n, m) of candidates that must not count as negatives of a query.

    These are candidates that are missing, and false negatives: candidates equal to the positive of the query, or to the
    positive of an equal query. The positive itself is not masked.

    Args:
        query_keys: (n,) int64, equal for equal queries.
        candidate_keys: (m,) int64, equal for equal candidates; the n positives come first.
        present: (m,) bool, false for a candidate that is missing. Default: all are present.
    """
    count = len(query_keys)
    _, query_ids = torch.unique(query_keys, return_inverse=True)
    _, candidate_ids = torch.unique(candidate_keys, return_inverse=True)
    size = (int(query_ids.max()) + 1, int(candidate_ids.max()) + 1)
    is_right = torch.zeros(size, dtype=torch.bool, device=query_keys.device)
    is_right[query_ids, candidate_ids[:count]] = True  # for every query with the same key
    mask = is_right[query_ids][:, candidate_ids]
    if present is not None:
        mask |= ~present[None, :]
    mask[torch.arange(count), torch.arange(count)] = False
    return mask
