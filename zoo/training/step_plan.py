"""How training rows are divided into optimiser steps and forward passes. Imports no torch, for `zoo check`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from zoo.schema import Training


@dataclass(frozen=True)
class StepPlan:
    """How the rows are divided into optimiser steps.

    Attributes:
        total_steps: optimiser steps of the whole run.
        micro_batch_size: rows of one forward pass over all processes; `gradient_accumulation` of them make a step.
        drop_last: whether the incomplete batch at the end of an epoch is left out.
    """

    total_steps: int
    micro_batch_size: int
    drop_last: bool


def plan_steps(settings: Training, row_count: int) -> StepPlan:
    """Divide `row_count` rows into optimiser steps; fewer rows than a batch become one batch.

    If one batch is divided into parts, the last part has a second row where possible: an in-batch loss of one row is 0.
    """
    fills_a_batch = row_count >= settings.batch_size
    steps_per_epoch = max(1, row_count // settings.batch_size) if fills_a_batch else 1
    batch_size = settings.batch_size if fills_a_batch else row_count
    total_steps = settings.max_steps or max(1, math.ceil(steps_per_epoch * (settings.fixed_epochs or 1)))
    micro_batch_size = math.ceil(batch_size / settings.gradient_accumulation)
    while not fills_a_batch and micro_batch_size > 1 and row_count % micro_batch_size == 1:
        micro_batch_size += 1
    return StepPlan(total_steps, micro_batch_size, fills_a_batch)


def split_rows(row_count: int, size: int) -> Iterator[range]:
    """Split the numbers of `row_count` rows into ranges of `size`. A last row that would be alone joins the range before."""
    start = 0
    while start < row_count:
        end = start + size
        end = row_count if end >= row_count or (row_count - end == 1 < size) else end
        yield range(start, end)
        start = end
