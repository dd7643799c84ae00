"""`TokenSum`: what a static encoder computes, as a torch module that can be exported."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch


class TokenSum(torch.nn.Module):
    """Token ids and mask (batch, tokens) to unit vectors (batch, dim). A text without tokens gives zeros.

    Args:
        table: (tokens, dim) float32.
    """

    def __init__(self, table: npt.NDArray[Any]) -> None:
        super().__init__()
        rows, dim = table.shape
        self.embedding = torch.nn.Embedding(rows, dim, _weight=torch.tensor(table))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors. The sum points where the mean does, so it is not divided by the number of tokens."""
        rows = self.embedding(input_ids) * attention_mask[:, :, None]
        return torch.nn.functional.normalize(rows.sum(1), dim=-1)
