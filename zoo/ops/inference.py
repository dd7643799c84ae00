"""Helpers around a forward pass without training: evaluation mode, a check of the vectors, and a stamp of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def stamp_weights(module: torch.nn.Module) -> list[Any]:
    """Return values that change when the weights do.

    A fused optimiser leaves the version of a tensor as it is, so norms of the vectors among the weights are compared too.
    """
    parameters = list_parameters(list_modules(module))
    vectors: list[torch.Tensor] = [parameter for parameter in parameters if parameter.ndim == 1]
    with torch.inference_mode():
        norms = torch._foreach_norm(vectors) if vectors else []
        return [(p.data_ptr(), p._version) for p in parameters] + [norm.item() for norm in norms]


def list_modules(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return a module and all modules in it, once each. `Module.modules` takes longer, which is noticed at a short text."""
    seen, waiting = {id(module): module}, [module]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and id(child) not in seen:
                seen[id(child)] = child
                waiting.append(child)
    return list(seen.values())


def list_parameters(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Parameter]:
    """Return the parameters that are directly in these modules."""
    return [parameter for part in modules for parameter in part._parameters.values() if parameter is not None]
