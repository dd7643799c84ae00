"""In-batch losses over several processes: every process sees all rows, and gradients add up to the single-process ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")


def world_size() -> int:
    """Number of training processes."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def all_gather_with_grad(rows: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Rows of all processes in rank order along `dim`; the gradient flows to this process's own. Equal shapes required."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    torch.distributed.all_gather(parts, rows.detach().contiguous())
    parts[torch.distributed.get_rank()] = rows
    return torch.cat(parts, dim=dim)


def widest(count: int) -> int:
    """The largest `count` of all processes."""
    if world_size() == 1:
        return count
    found = torch.tensor(count, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return int(found)


def global_batch_gradient(loss: torch.Tensor) -> torch.Tensor:
    """A loss over the gathered batch, its value unchanged and its gradient multiplied by the number of processes, because
    each holds the gradient of its own rows only and DistributedDataParallel takes the mean where the sum is due."""
    return loss + (world_size() - 1) * (loss - loss.detach())
