"""GradCache: exact gradients of a batch that does not fit into memory, by running every chunk of it twice.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv 2101.06983.
It is an autograd function, so the loss and the training loop need not know of it. Its backward pass adds up the gradients of all
chunks, so that DistributedDataParallel, gradient accumulation and gradient scaling see each parameter once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.distributed.tensor import DTensor

RunChunk = Callable[[Any], torch.Tensor]
RngState = tuple[torch.Tensor, list[torch.Tensor]]
"""The states of the random generators of the CPU and of every CUDA device."""


def run_chunks(run: RunChunk, chunks: Sequence[Any], parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute `torch.cat([run(chunk) for chunk in chunks])`, (n, d), with the memory of one chunk.

    Every chunk runs again in the backward pass, with the random state and the autocast settings of its first run, so that
    dropout is the same. Parameters that no chunk uses get a gradient of zero.

    Parameters that are divided over processes (FSDP) are whole only while their module runs, so that no second run inside the
    backward pass could use them. The chunks then run once, with the memory of all of them.

    Args:
        run: maps a chunk to vectors (rows, d). These may depend on tensors that need gradients only through `parameters`.
        chunks: the parts of the batch.
        parameters: the tensors that receive gradients.
    """
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        return torch.cat([run(chunk) for chunk in chunks])
    apply: Any = _GradCache.apply
    vectors: torch.Tensor = apply(run, list(chunks), *parameters)
    return vectors


class _GradCache(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: RunChunk, chunks: list[Any], *parameters: torch.Tensor) -> torch.Tensor:
        ctx.run, ctx.chunks, ctx.parameters = run, chunks, parameters
        device_type = parameters[0].device.type
        ctx.autocast = {
            "device_type": device_type,
            "dtype": torch.get_autocast_dtype(device_type),
            "enabled": torch.is_autocast_enabled(device_type),
        }
        ctx.rng_states, outputs = [], []
        for chunk in chunks:
            ctx.rng_states.append(_get_rng_state())
            outputs.append(run(chunk))
        ctx.sizes = [len(output) for output in outputs]
        return torch.cat(outputs)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Any) -> Any:
        sums = [torch.zeros_like(parameter) for parameter in ctx.parameters]
        chunk_gradients = output_gradients[0].split(ctx.sizes)
        for chunk, rng_state, chunk_gradient in zip(ctx.chunks, ctx.rng_states, chunk_gradients, strict=True):
            with _use_rng_state(rng_state), torch.enable_grad(), torch.autocast(**ctx.autocast):
                output = ctx.run(chunk)
            if not output.requires_grad:
                continue
            gradients = torch.autograd.grad(output, ctx.parameters, chunk_gradient.to(output.dtype), allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total += gradient
        return None, None, *sums


def _get_rng_state() -> RngState:
    cuda: Any = torch.cuda
    return torch.get_rng_state(), cuda.get_rng_state_all() if cuda.is_initialized() else []


@contextmanager
def _use_rng_state(state: RngState) -> Iterator[None]:
    """Set the random generators to `state`, and set them back afterwards."""
    cpu_state, cuda_states = state
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=range(len(cuda_states))))
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        yield


def measure_activation_bytes(run: RunChunk, chunk: Any) -> int:
    """Return the bytes of activations that a backward pass through `run(chunk)` needs.

    Parameters do not count, and each storage counts once.
    """
    storages: dict[int, int] = {}

    def record_storage(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not tensor.is_leaf:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record_storage, lambda tensor: tensor):
        run(chunk)
    return sum(storages.values())
