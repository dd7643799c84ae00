"""Models that give a vector for each token: which tokens count, and sets of token vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Rules(Protocol):
    """The attributes of `TokenSets` that say which tokens count."""

    @property
    def skipped_ids(self) -> tuple[int, ...]: ...
    @property
    def expanded_length(self) -> int: ...
    @property
    def expansion_id(self) -> int: ...
    @property
    def attends(self) -> bool: ...


def mark_tokens(ids: Array, mask: Array, rules: Rules, *, is_query: bool) -> tuple[Array, Array, Array]:
    """Return input_ids, attention_mask and scored, each int64 (rows, tokens), of padded token ids.

    In a document, all tokens count except padding and `skipped_ids`. In a query all tokens count, and a query that is shorter
    than `expanded_length` gets expansion tokens up to there, which count too.
    """
    if not is_query:
        return ids, mask, mask * ~np.isin(ids, rules.skipped_ids)
    missing = ((0, 0), (0, max(0, rules.expanded_length - ids.shape[1])))
    ids, mask = np.pad(ids, missing), np.pad(mask, missing)
    is_expansion = (mask == 0) & (np.arange(ids.shape[1]) < rules.expanded_length)
    scored = mask | is_expansion
    return np.where(is_expansion, rules.expansion_id, ids), scored if rules.attends else mask, scored


def join(sets: Sequence[Array], dim: int) -> tuple[Array, Array]:
    """Return all tokens (t, dim) float32, and the offsets (n + 1,) int64 at which each text begins."""
    offsets = np.cumsum([0, *map(len, sets)], dtype=np.int64)
    return np.concatenate([np.empty((0, dim), np.float32), *sets]), offsets
