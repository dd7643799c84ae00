"""Speed on this machine: the precision that `auto` means, and an allocator that keeps large blocks."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError

if TYPE_CHECKING:
    import torch


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision on a device.

    `auto` is bfloat16 if the hardware multiplies it natively (CUDA from Ampere, CPUs with AVX512-BF16 or AMX), and float32
    otherwise. Raise ZooError for an unknown name.
    """
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name in dtypes:
        return dtypes[name]
    if name != "auto":
        raise ZooError(f"precision: {name!r} is not one of auto, {', '.join(dtypes)}")
    if device.type == "cuda":
        has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has_bf16 = device.type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return torch.bfloat16 if has_bf16 else torch.float32


def list_cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the processor as Linux names them; empty on other systems."""
    return _cpu_flags()


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


@cache
def keep_large_blocks() -> None:
    """Ask glibc to reuse large freed blocks of memory, and oneDNN to cache fewer kernels.

    By default glibc returns large blocks to the kernel after each operation. The page faults that follow can cost more than
    the arithmetic of an activation. On systems without glibc only oneDNN is set.

    oneDNN compiles and caches a kernel for each shape. Batches of networks that are not recognised seldom repeat a shape, so a
    cache of 128 kernels replaces the default of about a thousand. PyTorch has a second cache of as many, for batches of products
    in bfloat16, which are those of attention. It is as fast with 4 kernels, and takes less memory. Fewer kernels of
    oneDNN would take less memory as well. But queries of many lengths would compile them again and again.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # oneDNN reads it when it multiplies first
    os.environ.setdefault("LRU_CACHE_CAPACITY", "4")  # and PyTorch this one
    trim_threshold, mmap_threshold = -1, -3
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(mmap_threshold, 32 << 20)  # the largest value that every glibc accepts
            mallopt(trim_threshold, 512 << 20)
