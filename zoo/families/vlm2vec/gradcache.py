"""Exact gradients of a loss over a batch that does not fit into memory: every chunk of it is run twice.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv 2101.06983 (GradCache).
As an autograd function it needs nothing of the loss or the training loop: the gradients of all chunks are added up inside its
backward pass, so DistributedDataParallel, accumulation and gradient scaling see each parameter once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

Run = Callable[[Any], torch.Tensor]


def cached(run: Run, chunks: Sequence[Any], parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """`torch.cat([run(chunk) for chunk in chunks])`, (n, d), with the memory of one chunk.

    The state of the random generators is kept for each chunk, so that dropout is the same when it is run again; autocast is
    what it was. Parameters that no chunk reaches get a gradient of zero.

    Args:
        run: a chunk to (rows, d); its output may depend on gradient-taking tensors only through `parameters`.
        parameters: those that take gradients.
    """
    return _Cached.apply(run, list(chunks), *parameters)


class _Cached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Run, chunks: list[Any], *parameters: torch.Tensor) -> torch.Tensor:
        ctx.run, ctx.chunks, ctx.parameters = run, chunks, parameters
        kind = parameters[0].device.type
        enabled = torch.is_autocast_enabled(kind)
        ctx.autocast = {"device_type": kind, "dtype": torch.get_autocast_dtype(kind), "enabled": enabled}
        ctx.states, pieces = [], []
        for chunk in chunks:
            ctx.states.append(_state())
            pieces.append(run(chunk))
        ctx.sizes = [len(piece) for piece in pieces]
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        sums = [torch.zeros_like(parameter) for parameter in ctx.parameters]
        for chunk, state, gradient in zip(ctx.chunks, ctx.states, gradients[0].split(ctx.sizes), strict=True):
            with _replayed(state), torch.enable_grad(), torch.autocast(**ctx.autocast):
                out = ctx.run(chunk)
            if not out.requires_grad:
                continue
            found = torch.autograd.grad(out, ctx.parameters, gradient.to(out.dtype), allow_unused=True)
            for total, each in zip(sums, found, strict=True):
                if each is not None:
                    total += each
        return None, None, *sums


def _state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextmanager
def _replayed(state: tuple[torch.Tensor, list[torch.Tensor]]) -> Iterator[None]:
    """The generators as they were, and afterwards as they are now."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=range(len(state[1]))))
        torch.set_rng_state(state[0])
        if state[1]:
            torch.cuda.set_rng_state_all(state[1])
        yield


def bytes_kept(run: Run, chunk: Any) -> int:
    """Bytes of activations that a backward pass through `run(chunk)` would need, parameters left out; each storage once."""
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not tensor.is_leaf:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run(chunk)
    del out
    return sum(seen.values())
