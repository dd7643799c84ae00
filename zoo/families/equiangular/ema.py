"""An exponential moving average of a module's weights, kept beside the weights that training changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class MovingAverage(torch.nn.Module):
    """Averages of all floating-point tensors of a module; other tensors are copied.

    The average is a module itself, so that checkpoints hold it and a resumed run continues with the same one.

    Args:
        module: the module whose weights are averaged. Its current weights are the start.
        decay: the share of the average that remains at each step. In the first steps less remains.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        super().__init__()
        self.copy = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self._last_step = -1

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Add the weights that `module` has before step `step`, counted from 0.

        A second call with the same step does nothing, because gradient accumulation computes a loss several times a step.
        """
        if step == self._last_step:
            return
        self._last_step = step
        decay = min(self.decay, step / (10 + step))
        averages = self.copy.state_dict()
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                averages[name].lerp_(tensor, 1 - decay)
            else:
                averages[name].copy_(tensor)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrite the weights of `module` with the averages."""
        module.load_state_dict(self.copy.state_dict())

    @contextmanager
    def swap_into(self, module: torch.nn.Module) -> Iterator[None]:
        """Give `module` the averages inside the block, and its own weights back afterwards."""
        self._exchange(module)
        try:
            yield
        finally:
            self._exchange(module)

    @torch.no_grad()
    def _exchange(self, module: torch.nn.Module) -> None:
        averages = self.copy.state_dict()
        for name, tensor in module.state_dict().items():
            original = tensor.clone()
            tensor.copy_(averages[name])
            averages[name].copy_(original)
