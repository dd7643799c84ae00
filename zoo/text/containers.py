"""Copies of modules that share every tensor and child, so that a child can be replaced without changing the original."""

from __future__ import annotations

import copy
from typing import Any

import torch


def copy_container(module: torch.nn.Module) -> Any:
    """Copy a module but not its tensors and children. Adding or removing children leaves the original unchanged."""
    container = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        container.__dict__[registry] = dict(module.__dict__[registry])
    return container
