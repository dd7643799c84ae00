"""Rows of inputs and classes for the Trainer. Images are decoded once if they fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.data import kinds
from zoo.families.equiangular.towers import Tower
from zoo.vision.backbone import ImageBackbone

if TYPE_CHECKING:
    from datasets import Dataset

MAX_IMAGE_BYTES = 1 << 30  # decoded images are kept in memory up to this size
SAMPLE_SIZE = 8192


class LabelledDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """For each row: `input`, as `tower.batch` takes it, and `class_id`, the position of its label in `classes`.

    Raises ZooError for a label that is not among `classes`.
    """

    def __init__(self, rows: Dataset, classes: Sequence[str | int], tower: Tower) -> None:
        self.class_ids = find_class_ids(rows["label"], classes)
        self.rows, self.tower = rows, tower
        self.pixels: torch.Tensor | None = None
        if isinstance(tower, ImageBackbone) and len(rows) * tower.channels * tower.size**2 <= MAX_IMAGE_BYTES:
            self.pixels = torch.empty(len(rows), tower.channels, tower.size, tower.size, dtype=torch.uint8)
            for number, image in enumerate(rows["image"]):
                self.pixels[number] = torch.from_numpy(tower.pixels(image))

    def __len__(self) -> int:
        return len(self.class_ids)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self.rows[number][self.tower.modality] if self.pixels is None else self.pixels[number]
        return {"input": row, "class_id": self.class_ids[number]}

    def sample_inputs(self) -> list[Any]:
        """Return up to SAMPLE_SIZE inputs, spread evenly over the rows."""
        return [self[number]["input"] for number in _spread_evenly(len(self), min(len(self), SAMPLE_SIZE))]


def find_class_ids(labels: Iterable[str | int], classes: Sequence[str | int]) -> list[int]:
    """Return the position of each label in `classes`. Raises ZooError for a label that is not there."""
    positions: Mapping[str | int, int] = {name: position for position, name in enumerate(classes)}
    labels = kinds.match_labels(labels, classes)
    unknown = sorted({str(label) for label in set(labels) - set(positions)})
    if unknown:
        raise ZooError(
            f"labels that no training row has: {', '.join(unknown[:5])}; the encoder has no class for them, so leave their "
            "rows out"
        )
    return [positions[label] for label in labels]


def select_evenly(rows: Dataset, count: int = SAMPLE_SIZE) -> Dataset:
    """Return up to `count` of the rows, spread evenly."""
    return rows.select(_spread_evenly(len(rows), count)) if len(rows) > count else rows


def _spread_evenly(total: int, count: int) -> list[int]:
    numbers: list[int] = np.linspace(0, total - 1, count).astype(int).tolist()
    return numbers
