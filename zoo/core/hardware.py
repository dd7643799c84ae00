"""What this machine is fast at: the precision `auto` stands for, linear layers, and an allocator that keeps large blocks."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

ROWS = 2048  # that the order of a linear layer's weights is chosen for


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype a precision stands for on a device: `auto` is bfloat16 where the hardware multiplies it natively (CUDA from
    Ampere, CPUs with AVX512-BF16 or AMX), float32 elsewhere. Raises ZooError for an unknown name."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name in known:
        return known[name]
    if name != "auto":
        raise ZooError(f"precision: {name!r} is not one of auto, {', '.join(known)}")
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return torch.bfloat16 if fast else torch.float32


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":", 1)[1] for line in text.splitlines() if line.startswith("flags")), "").split()
    )


def linear(part: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """A linear layer on a CPU, for inference: by oneDNN with a copy of the weights in the order that it multiplies them in, as
    PyTorch's own compiler does it, in float32, and in bfloat16 where the processor has it. The product that PyTorch asks of its
    BLAS in float32 is slower, much so on processors that this BLAS was not written for."""
    weight, bias = part.weight.detach(), None if part.bias is None else part.bias.detach()
    if not _packs(weight.dtype):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has oneDNN and the operators by which its compiler calls it, which are not documented, and
    the processor has instructions for `dtype`."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    few = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or bool(few)


@cache
def keep_large_blocks() -> None:
    """Ask glibc to reuse large freed blocks instead of giving them back to the kernel after every operation, whose page
    faults can cost more than the arithmetic of an activation. Elsewhere than on glibc this does nothing.

    And let oneDNN, which multiplies bfloat16 on CPUs, keep the code of some shapes instead of a thousand: batches sorted by
    length seldom have one twice."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # read when it first multiplies
    trim_threshold, mmap_threshold = -1, -3
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(mmap_threshold, 32 << 20)  # the most that every glibc accepts
            mallopt(trim_threshold, 512 << 20)
