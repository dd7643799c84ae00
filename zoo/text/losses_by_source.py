"""Losses of several sources in one training: the loss of a row, batches with several losses, and their mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from zoo.data.data_source import DataSource
from zoo.ops.loss_names import LossName

Batch = dict[str, Any]


class LossesBySource:
    """The part of an encoder that chooses losses. A source may have its own; the others have that of the encoder.

    Attributes:
        spec: the encoder's section; its `loss` is the loss of sources without their own.
        sources: the sources of the training rows by name; {} if the rows are from one data section.
    """

    spec: Any
    sources: dict[str, DataSource]

    def find_loss(self, row: Mapping[str, Any]) -> LossName:
        """The loss of a row: that of its source, or of the encoder."""
        source = self.sources.get(row.get("source", ""))
        return cast("LossName", (source and source.loss) or self.spec.loss)

    def _list_losses(self) -> list[LossName]:
        """The losses of all sources of the training rows, each once."""
        losses = [self.find_loss({"source": name}) for name in self.sources] or [self.spec.loss]
        return list(dict.fromkeys(losses))

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Turn rows into the batch of `_collate_part`. If they have several losses, `parts` holds such a batch for each."""
        groups: dict[LossName, list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault(self.find_loss(row), []).append(row)
        parts = [self._collate_part(loss, group) for loss, group in groups.items()]
        return parts[0] if len(parts) == 1 else {"parts": parts}

    def _collate_part(self, loss: LossName, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Turn rows of one loss into a batch."""
        raise NotImplementedError


def compute_mean_loss(
    batch: Batch, count_rows: Callable[[Batch], int], compute_loss: Callable[[Batch], torch.Tensor]
) -> torch.Tensor:
    """Return the mean loss of the rows of a batch: the losses of its parts, weighted by their rows."""
    parts = batch.get("parts", [batch])
    counts = [count_rows(part) for part in parts]
    losses = [compute_loss(part) * count for part, count in zip(parts, counts, strict=True)]
    total: torch.Tensor = torch.stack(losses).sum() / sum(counts)
    return total
