"""The order in which an epoch reads the rows: it depends on seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from torch.utils.data import Sampler

from zoo.schema import Training
from zoo.training import mixture
from zoo.training.step_plan import plan_steps

ORDER_BLOCK = 1 << 16  # row numbers that are Python objects at once
EPOCH_TOLERANCE = 1e-6  # the Trainer adds epochs up as fractions


class EpochSampler(Sampler[int]):
    """A random order of the rows that depends on seed and epoch alone.

    So a resumed run and a distributed run see the same batches. Rows with a method `order(seed, epoch)` choose their own order,
    for example to keep the rows of one data set together.
    """

    def __init__(self, rows: Any, seed: int) -> None:
        self.row_count, self.seed, self.epoch = len(rows), seed, 0
        self.order: Callable[[int, int], Any] | None = getattr(rows, "order", None)

    def __len__(self) -> int:
        return self.row_count

    def __iter__(self) -> Iterator[int]:
        order = self.compute_order()
        for start in range(0, len(order), ORDER_BLOCK):
            yield from order[start : start + ORDER_BLOCK].tolist()

    def compute_order(self) -> torch.Tensor:
        """Return the row numbers (n,) int64 of the epoch."""
        if self.order is not None:
            return torch.as_tensor(self.order(self.seed, self.epoch))
        return mixture.shuffle(self.row_count, self.seed, self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the Trainer calls this when one begins."""
        self.epoch = epoch


class EpochStart(transformers.TrainerCallback):
    """Calls `begin_epoch` of the rows with the number of the epoch that begins, also of one that is resumed."""

    def __init__(self, begin_epoch: Callable[[int], None]) -> None:
        self.begin_epoch = begin_epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Call `begin_epoch`."""
        self.begin_epoch(int((state.epoch or 0) + EPOCH_TOLERANCE))


def count_rows_seen(rows: Any, settings: Training, steps: int) -> int:
    """Count the different rows that the first `steps` optimiser steps read."""
    plan, sampler = plan_steps(settings, len(rows)), EpochSampler(rows, settings.seed)
    parts = len(rows) // plan.micro_batch_size if plan.drop_last else math.ceil(len(rows) / plan.micro_batch_size)
    steps_per_epoch = math.ceil(parts / settings.gradient_accumulation)
    is_seen = torch.zeros(getattr(rows, "row_count", len(rows)), dtype=torch.bool)
    for epoch in range(math.ceil(steps / steps_per_epoch)):
        sampler.set_epoch(epoch)
        steps_left = min(steps - epoch * steps_per_epoch, steps_per_epoch)
        count = min(parts, steps_left * settings.gradient_accumulation) * plan.micro_batch_size
        is_seen[sampler.compute_order()[:count]] = True
        if is_seen.all():
            break
    return int(is_seen.sum())
