"""In-batch losses over several processes: every process sees all rows, and the gradients add up to those of one process."""

from __future__ import annotations

import torch


def get_world_size() -> int:
    """Return the number of training processes; 1 if the run is not distributed."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1


def all_gather_with_grad(rows: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Concatenate the rows of all processes in rank order along `dim`.

    Gradients flow only to this process's own rows. All processes must pass the same shape.
    """
    if get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(get_world_size())]
    torch.distributed.all_gather(parts, rows.detach().contiguous())
    parts[torch.distributed.get_rank()] = rows
    return torch.cat(parts, dim=dim)


def find_largest_count(count: int) -> int:
    """Return the largest `count` of all processes."""
    if get_world_size() == 1:
        return count
    largest = torch.tensor(count, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    return int(largest)


def global_batch_gradient(loss: torch.Tensor) -> torch.Tensor:
    """Return a loss over the gathered batch with its gradient multiplied by the number of processes; its value is unchanged.

    Each process has the gradient of its own rows only, so their sum is the gradient of the batch. DistributedDataParallel
    takes the mean instead.
    """
    return loss + (get_world_size() - 1) * (loss - loss.detach())
