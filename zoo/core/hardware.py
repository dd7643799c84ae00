"""Speed on this machine: the precision that `auto` means, packed linear layers, an allocator that keeps large blocks."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError

if TYPE_CHECKING:
    import torch

PACKING_ROWS = 2048  # the number of input rows that oneDNN packs the weights of a linear layer for


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


@cache
def _cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the processor as Linux names them; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def pack_linear(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that computes `layer` on a CPU, for inference, with a packed copy of its weights.

    oneDNN multiplies with the packed copy in float32, and in bfloat16 if the processor supports it. PyTorch's own compiler
    does the same. In float32 PyTorch would otherwise call its BLAS, which is slower, and much slower on processors that the
    BLAS was not written for. The function falls back to PyTorch if oneDNN cannot be used.
    """
    import torch

    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    if not _can_pack(weight.dtype):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKING_ROWS)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Return whether oneDNN can multiply packed weights of `dtype` here.

    The operators are those that PyTorch's compiler calls. They are not documented, so each is looked up by name.
    """
    import torch

    backend: Any = torch.backends.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not backend.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


@cache
def keep_large_blocks() -> None:
    """Ask glibc to reuse large freed blocks of memory, and oneDNN to cache fewer kernels.

    By default glibc returns large blocks to the kernel after each operation. The page faults that follow can cost more than
    the arithmetic of an activation. On systems without glibc only oneDNN is set.

    oneDNN multiplies bfloat16 on CPUs and caches a kernel for each shape. Batches sorted by length seldom repeat a shape,
    so a cache of 16 kernels replaces the default of about a thousand.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # oneDNN reads it when it multiplies first
    trim_threshold, mmap_threshold = -1, -3
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(mmap_threshold, 32 << 20)  # the largest value that every glibc accepts
            mallopt(trim_threshold, 512 << 20)
