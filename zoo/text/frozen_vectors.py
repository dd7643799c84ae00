"""Vectors of a frozen encoder for many texts, computed once, kept on disk, and looked up by text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from zoo.core import atomic_files
from zoo.encoder import Encoder
from zoo.text.teacher_scores import compute_vectors


class FrozenVectors:
    """Vectors (texts, d) float32 of a frozen encoder.

    Args:
        encoder: the frozen encoder; it puts no prompt before the texts.
        texts: every text that will be looked up. Repeats are encoded once.
        cache: the folder that keeps the vectors in a .npy file.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], cache: Path) -> None:
        distinct = list(dict.fromkeys(texts))
        self._place = {text: i for i, text in enumerate(distinct)}
        fingerprint = atomic_files.digest([encoder.backbone_name, encoder.backbone_revision])
        self._vectors = compute_vectors(encoder.encode, distinct, cache, fingerprint)

    def find_rows(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the rows of the vectors of n texts, (n,) int64. Raises KeyError for a text that `__init__` did not get."""
        return torch.tensor([self._place[text] for text in texts])

    def get(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the vectors (..., d) of the rows (...) on `device`."""
        return torch.from_numpy(np.array(self._vectors[rows.cpu().numpy()])).to(device)
