"""Vectors of a frozen encoder for many texts, computed once, kept on disk, and looked up by text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from zoo.core import atomic_files
from zoo.encoder import Encoder


class FrozenVectors:
    """Vectors (texts, d) float32 of a frozen encoder.

    Args:
        encoder: the frozen encoder; it puts no prompt before the texts.
        texts: every text that will be looked up. Repeats are encoded once.
        cache: the folder that keeps the vectors in a .npy file.
        name: the first part of the file's name.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], cache: Path, name: str) -> None:
        distinct = list(dict.fromkeys(texts))
        self._place = {text: i for i, text in enumerate(distinct)}
        key = atomic_files.digest([encoder.backbone_name, encoder.backbone_revision, distinct])[:16]
        path = cache / f"{name}-{key}.npy"
        if not path.exists():
            vectors = encoder.encode(distinct, precision="fp32")
            with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
                np.save(file, vectors)
        self._vectors = np.load(path, mmap_mode="r")

    def find_rows(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the rows of the vectors of n texts, (n,) int64. Raises KeyError for a text that `__init__` did not get."""
        return torch.tensor([self._place[text] for text in texts])

    def get(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the vectors (..., d) of the rows (...) on `device`."""
        return torch.from_numpy(np.array(self._vectors[rows.cpu().numpy()])).to(device)
