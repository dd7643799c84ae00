"""The training losses of several sources, for the log."""

from __future__ import annotations

from typing import Any

import torch

from zoo.ops import distributed
from zoo.training import mixture
from zoo.training.checkpoints import LOSS_OF_SOURCE


class SourceLosses:
    """The training losses by source since they were last logged. All processes have batches of the same source."""

    def __init__(self, rows: Any) -> None:
        self.names = list(rows.spans) if isinstance(rows, mixture.SourceMixture) else []
        self._losses: dict[str, list[torch.Tensor]] = {}

    def add(self, source: str, loss: torch.Tensor) -> None:
        """Note the loss of a batch."""
        self._losses.setdefault(source, []).append(loss.detach())

    def take(self) -> dict[str, float]:
        """Return the mean loss of each source that had a batch, with LOSS_OF_SOURCE before its name, and forget the losses."""
        means = {name: torch.stack(losses).mean() for name, losses in sorted(self._losses.items())}
        if means and distributed.get_world_size() > 1:
            sums = torch.stack(list(means.values()))
            torch.distributed.all_reduce(sums)
            means = dict(zip(means, sums / distributed.get_world_size(), strict=True))
        self._losses.clear()
        return {f"{LOSS_OF_SOURCE}{name}": mean.item() for name, mean in means.items()}
