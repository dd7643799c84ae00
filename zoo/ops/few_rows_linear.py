"""`FewRowsLinear`: a linear layer of 8-bit integers for a few rows of floats, by the FBGEMM that PyTorch holds.

It quantises its input, multiplies, and returns floats, in one call. oneDNN needs three more calls for it, and compiles kernels
for each number of rows. So short texts take up to a third less time with FBGEMM. For many rows oneDNN is faster.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch

from zoo.core import hardware

VNNI = "avx512_vnni"
"""Without these instructions, FBGEMM sums pairs of products in 16 bits, which saturate."""
ENGINES = ("x86", "fbgemm")
"""The engines of PyTorch for which FBGEMM packs weights; the first is the default on x86."""


class FewRowsLinear:
    """Computes x Wᵀ + b for inputs that are rounded to 8-bit integers.

    Args:
        integers: (out, in) int8 weights.
        scales: (out,) float32; a weight is its integer times the scale of its output.
        bias: (out,) float32.
        scale, zero: an input x becomes the integer round(x / scale) + zero, between 0 and 255.
    """

    def __init__(
        self, integers: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor, scale: float, zero: int
    ) -> None:
        zeros = torch.zeros(len(integers), dtype=torch.int64)
        with warnings.catch_warnings():
            # PyTorch will remove tensors of this kind. `can_multiply_few_rows` says no once they are gone.
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions", category=UserWarning)
            weight = torch._make_per_channel_quantized_tensor(integers, scales.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack.default(weight, bias)
        self._inputs = (scale, zero, packed)
        self.bytes = integers.numel()
        operator: Any = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        # Its wrapper in Python looks at each argument, which takes a fifth of the call for the shortest texts.
        self._multiply = getattr(operator, "_op", operator)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, out) float32 for x (rows, in) float32."""
        result: torch.Tensor = self._multiply(x, *self._inputs)
        return result


@cache
def can_multiply_few_rows() -> bool:
    """Return whether this processor and this PyTorch have FBGEMM, and multiply exactly with it.

    The operators are not documented, so each is looked up by name.
    """
    names = ("linear_prepack", "linear_with_input_q_dq_qweight_dq_output_fp32")
    backend: Any = torch.backends.quantized
    is_there = hasattr(torch, "_make_per_channel_quantized_tensor") and backend.engine in ENGINES
    return is_there and all(hasattr(torch.ops.quantized, name) for name in names) and VNNI in hardware.list_cpu_flags()
