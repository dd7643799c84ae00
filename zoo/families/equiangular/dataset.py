"""Rows of an input and a class as the Trainer takes them; images are decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from zoo.core.errors import ZooError
from zoo.families.equiangular.towers import Tower
from zoo.vision.backbone import ImageBackbone

MEMORY = 1 << 30  # bytes of decoded images that are kept
SOME = 8192


class LabelledDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """`input`, as `tower.batch` takes it, and `gold`, the place of its class, by row.

    Raises ZooError for a label that is not in `known`.
    """

    def __init__(self, rows: Dataset, known: Mapping[Any, int], tower: Tower) -> None:
        strange = sorted({str(label) for label in set(rows["label"]) - set(known)})
        if strange:
            raise ZooError(f"labels that no training row has: {', '.join(strange[:5])}")
        self.gold = [known[label] for label in rows["label"]]
        self.rows, self.tower = rows, tower
        self.pixels: torch.Tensor | None = None
        if isinstance(tower, ImageBackbone) and len(rows) * tower.channels * tower.size**2 <= MEMORY:
            self.pixels = torch.empty(len(rows), tower.channels, tower.size, tower.size, dtype=torch.uint8)
            for place, picture in enumerate(rows["image"]):
                self.pixels[place] = torch.from_numpy(tower.pixels(picture))

    def __len__(self) -> int:
        return len(self.gold)

    def __getitem__(self, place: int) -> dict[str, Any]:
        if self.pixels is not None:
            return {"input": self.pixels[place], "gold": self.gold[place]}
        return {"input": self.rows[place][self.tower.modality], "gold": self.gold[place]}

    def sample(self) -> list[Any]:
        """Up to SOME inputs, spread evenly over the rows."""
        return [self[int(place)]["input"] for place in np.linspace(0, len(self) - 1, min(len(self), SOME)).astype(int)]


def some(rows: Dataset, count: int = SOME) -> Dataset:
    """Up to `count` of the rows, spread evenly."""
    return rows.select(np.linspace(0, len(rows) - 1, count).astype(int)) if len(rows) > count else rows
