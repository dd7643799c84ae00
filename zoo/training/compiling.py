"""Compile the networks of `transformers` inside an encoder for its training, with torch.compile.

On a GPU fewer and larger kernels run. On a CPU compiling takes longer than it saves in most trainings, so `auto` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from zoo.schema import Training


def wants_compile(settings: Training) -> bool:
    """Whether the training compiles: `auto` does so on a GPU only."""
    return torch.cuda.is_available() if settings.compile == "auto" else settings.compile


@contextmanager
def compile_networks(module: torch.nn.Module, settings: Training) -> Iterator[None]:
    """Inside the block, call the compiled networks of `module`; afterwards, call them as they are.

    The tensors and their names stay. The first step of each kind of shape takes up to minutes.
    """
    networks = _list_networks(module) if wants_compile(settings) else []
    for network in networks:
        network.compile(dynamic=True)
    try:
        yield
    finally:
        for network in networks:
            network._compiled_call_impl = None


@contextmanager
def call_uncompiled(module: torch.nn.Module) -> Iterator[None]:
    """Inside the block, call the networks as they are, because a validation has other shapes and no gradients."""
    compiled = [(network, network._compiled_call_impl) for network in _list_networks(module)]
    for network, _ in compiled:
        network._compiled_call_impl = None
    try:
        yield
    finally:
        for network, implementation in compiled:
            network._compiled_call_impl = implementation


def _list_networks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the outermost networks of `transformers`."""
    if isinstance(module, transformers.PreTrainedModel):
        return [module]
    return [network for child in module.children() for network in _list_networks(child)]
