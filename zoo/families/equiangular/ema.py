"""An exponential moving average of a module's weights, which training keeps beside those it moves.

It is itself a module, so that checkpoints hold it and a resumed run has the same one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Average(torch.nn.Module):
    """Averages of every floating tensor of `live`; the rest follows it.

    Args:
        decay: the share that stays at each step, once a few steps are past; before, less.
    """

    def __init__(self, live: torch.nn.Module, decay: float) -> None:
        super().__init__()
        self.copy = copy.deepcopy(live).requires_grad_(False)
        self.decay = decay
        self._last = -1

    @torch.no_grad()
    def follow(self, live: torch.nn.Module, step: int) -> None:
        """Take `live` in as it is before step `step`, counted from 0; a step of several parts counts once."""
        if step == self._last:
            return
        self._last = step
        keep = min(self.decay, step / (10 + step))
        ours, theirs = self.copy.state_dict(), live.state_dict()
        for name, tensor in theirs.items():
            if tensor.is_floating_point():
                ours[name].lerp_(tensor, 1 - keep)
            else:
                ours[name].copy_(tensor)

    @torch.no_grad()
    def into(self, live: torch.nn.Module) -> None:
        """Give `live` the averages for good."""
        live.load_state_dict(self.copy.state_dict())

    @contextmanager
    def inside(self, live: torch.nn.Module) -> Iterator[None]:
        """`live` with the averages, until the block ends."""
        self._exchange(live)
        try:
            yield
        finally:
            self._exchange(live)

    @torch.no_grad()
    def _exchange(self, live: torch.nn.Module) -> None:
        ours, theirs = self.copy.state_dict(), live.state_dict()
        for name, tensor in theirs.items():
            held = tensor.clone()
            tensor.copy_(ours[name])
            ours[name].copy_(held)
