"""Helpers around a forward pass without training: evaluation mode, and a check of the vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from zoo.core.errors import ZooError


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode inside the block.

    Afterwards exactly the submodules that were in training mode are in training mode again: a frozen part stays frozen.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def check_finite(vectors: np.ndarray[Any, Any]) -> None:
    """Raise ZooError if a vector holds NaN or infinity, for example because finite weights are far too large."""
    if not np.isfinite(vectors).all():
        raise ZooError(
            "encode() produced vectors that are not finite (NaN or infinity). The weights are probably corrupted: "
            "download the model again or retrain it"
        )
