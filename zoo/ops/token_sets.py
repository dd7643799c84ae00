"""Sets of token vectors of different sizes, kept as one array of all tokens and the offsets at which each set begins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
TokenSets = tuple[Floats, Integers]
"""Tokens (t, d) float32 of all sets, and offsets (n + 1,) int64."""


def check_token_sets(tokens: Any, offsets: Any) -> TokenSets:
    """Return tokens as contiguous float32 (t, d) and offsets as int64 (n + 1,).

    Raises ZooError unless the offsets begin at 0, never fall and end at t.
    """
    tokens = np.ascontiguousarray(tokens, np.float32)
    offsets = np.asarray(offsets)
    if tokens.ndim != 2:
        raise ZooError(f"tokens: an array (t, d) is needed, not one of shape {tokens.shape}")
    if offsets.ndim != 1 or not len(offsets) or offsets.dtype.kind not in "iu":
        raise ZooError("offsets: whole numbers (n + 1,) are needed, where each set begins and where the last one ends")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
        raise ZooError(f"offsets: they must begin at 0, never fall, and end at {len(tokens)}, the number of tokens")
    return tokens, offsets


def join_token_sets(sets: Sequence[Any], dim: int) -> TokenSets:
    """Return the tokens and the offsets of sets (t, dim), one after another."""
    offsets = np.cumsum([0, *(len(each) for each in sets)], dtype=np.int64)
    return np.concatenate([np.empty((0, dim), np.float32), *(np.asarray(each, np.float32) for each in sets)]), offsets


def split_token_sets(tokens: Floats, offsets: Integers) -> list[Floats]:
    """Return the sets (t, d) as views of `tokens`."""
    return [tokens[start:end] for start, end in pairwise(offsets)]


def select_token_sets(tokens: Floats, offsets: Integers, numbers: Integers) -> TokenSets:
    """Return the sets with these numbers (m,), in this order."""
    lengths = np.diff(offsets)[numbers]
    chosen = np.cumsum([0, *lengths], dtype=np.int64)
    places = np.arange(chosen[-1]) + np.repeat(offsets[numbers] - chosen[:-1], lengths)
    return tokens[places], chosen


def compute_mean_vectors(tokens: Floats, offsets: Integers) -> Floats:
    """Return the unit vector (n, d) float32 along the mean of each set. A set without tokens is a vector of zeros."""
    tokens, offsets = check_token_sets(tokens, offsets)
    sums = np.zeros((len(offsets) - 1, tokens.shape[1]), np.float32)
    is_filled = np.diff(offsets) > 0
    if is_filled.any():
        sums[is_filled] = np.add.reduceat(tokens, offsets[:-1][is_filled], axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Floats = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return means
