"""Pad rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def pad(ids: Sequence[Sequence[int]], padding: int) -> dict[str, torch.Tensor]:
    """Pad rows of token ids with the id `padding` on the right to int64 tensors input_ids and attention_mask."""
    longest = max(map(len, ids), default=0)
    token_ids = np.full((len(ids), longest), padding, np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for place, row in enumerate(ids):
        token_ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {"input_ids": torch.from_numpy(token_ids), "attention_mask": torch.from_numpy(mask)}
