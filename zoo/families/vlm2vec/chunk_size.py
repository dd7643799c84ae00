"""How many inputs' activations fit into memory: measured on a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.families.vlm2vec.vlm import VLM

if TYPE_CHECKING:
    import torch

    from zoo.families.vlm2vec import gradcache
else:
    torch, gradcache = lazy("torch"), lazy("zoo.families.vlm2vec.gradcache")

SHARE = 0.25  # of the memory that is free now; the optimiser and the gradients are yet to come
MOST = 32  # inputs run together: more of them are no faster, and padded to the longest


def chosen(vlm: VLM, cells: Sequence[Any], count: int) -> tuple[int, bool]:
    """(inputs a chunk, whether chunks must be run again) for a step of `count` inputs like `cells`."""
    with torch.random.fork_rng(devices=[]):
        batch = vlm.batch([cell.parts() for cell in cells], [cell.instruction for cell in cells])
        each = gradcache.bytes_kept(vlm.features, batch) / len(cells)
    budget = SHARE * free(vlm.device)
    if each * count <= budget:
        return MOST, False
    fits = max(1, int(budget // max(each, 1)))
    return min(MOST, 1 << (fits.bit_length() - 1)), True


def free(device: torch.device) -> int:
    """Bytes of memory that nobody holds, on the device, or, for a processor, in the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
