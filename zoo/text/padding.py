"""Pad rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def pad(ids: Sequence[Sequence[int]], padding: int) -> dict[str, torch.Tensor]:
    """Pad rows of token ids with the id `padding` on the right to int64 tensors input_ids and attention_mask."""
    lengths = [len(row) for row in ids]
    longest = max(lengths, default=0)
    token_ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in ids], dtype=torch.int64)
    mask = torch.arange(longest) < torch.tensor(lengths, dtype=torch.int64).unsqueeze(1)
    return {"input_ids": token_ids.view(len(ids), longest), "attention_mask": mask.long()}
