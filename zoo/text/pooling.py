"""Pool token states as sentence-transformers' Pooling does, for inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The modes of sentence-transformers by name."""


def read_modes(pooling: Any) -> tuple[str, ...] | None:
    """Return the modes of a Pooling of sentence-transformers; None for a module that is not exactly one."""
    kind = type(pooling)
    if kind.__name__ != "Pooling" or not kind.__module__.startswith("sentence_transformers."):
        return None
    modes = (pooling.pooling_mode,) if isinstance(pooling.pooling_mode, str) else tuple(pooling.pooling_mode)
    return modes if set(modes) <= set(MODES) and not pooling._forward_hooks else None


def pool(states: torch.Tensor, mask: torch.Tensor | None, modes: Sequence[str]) -> torch.Tensor:
    """Pool states (batch, tokens, width) to float32 vectors (batch, width · modes), one mode after another.

    Args:
        mask: (batch, tokens), 1 for the tokens that count, with at least one in each row; None if all count.
        modes: of MODES.
    """
    states = states.float()
    vectors = [_pool_all(states, mode) if mask is None else _pool_masked(states, mask, mode) for mode in modes]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)


def _pool_all(states: torch.Tensor, mode: str) -> torch.Tensor:
    length = states.shape[1]
    if mode == "mean":
        return states.mean(1)
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        return states[:, -1]
    if mode == "max":
        return states.max(1).values
    if mode == "mean_sqrt_len_tokens":
        return states.sum(1) / math.sqrt(length)
    weights = torch.arange(1, length + 1, dtype=states.dtype, device=states.device)
    return (weights / weights.sum()) @ states


def _pool_masked(states: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    rows, length = torch.arange(states.shape[0], device=states.device), states.shape[1]  # an export follows `shape`
    first = mask.to(torch.int32).argmax(1)
    if mode == "cls":
        return states[rows, first]
    if mode == "lasttoken":
        return states[rows, length - 1 - mask.to(torch.int32).flip(1).argmax(1)]
    if mode == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)
    weights = mask.to(states.dtype)
    if mode == "weightedmean":
        positions = torch.arange(1, length + 1, dtype=states.dtype, device=states.device)
        weights = weights * (positions - first.unsqueeze(-1))
    total = weights.sum(1, keepdim=True).clamp(min=1e-9)
    sums = torch.bmm(weights.unsqueeze(1), states).squeeze(1)
    return sums / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)
