"""`Int8Linear`: a linear layer of 8-bit integers for inference on a CPU with VNNI instructions.

Weights are signed integers with one scale for each output, inputs unsigned integers with one scale for the whole tensor. The
operators are those that PyTorch's compiler calls after a quantisation for x86.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from zoo.core import hardware
from zoo.ops.few_rows_linear import FewRowsLinear, can_multiply_few_rows
from zoo.ops.packed_linear import ACTIVATIONS, PACKING_ROWS

ZERO = 128  # the input integer that stands for 0
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instruction sets that sum products of 8-bit integers without saturation."""


class Int8Linear:
    """Computes activation(x Wᵀ + b) of quantised inputs.

    Args:
        weight: (out, in) float32.
        bias: (out,) float32, or None for zeros.
        scale, zero: an input integer q stands for (q − zero) · scale.
        activation: a key of ACTIVATIONS, computed in the same pass.
        output: scale and zero point of outputs in 8 bits; None for outputs in a float type.

    Attributes:
        few_rows: the same weights for a few rows of floats, without the activation; None where FBGEMM cannot be used.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        *,
        zero: int = ZERO,
        activation: str = "none",
        output: tuple[float, int] | None = None,
    ) -> None:
        self.scales = weight.abs().amax(1).clamp(min=1e-12) / 127
        integers = (weight / self.scales.unsqueeze(1)).round().to(torch.int8)
        # Without the shape of inputs, oneDNN packs for no number of rows in particular, and multiplies a tenth slower.
        self.weight = torch.ops.onednn.qlinear_prepack.default(integers, [PACKING_ROWS, weight.shape[1]])
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.scale, self.zero = scale, zero
        # A zero point of inputs would be subtracted at every call. Its part of the output is known, as the bias is.
        shift = integers.sum(1).double() * self.scales.double() * (scale * zero)
        self.bias = -shift.float() if bias is None else (bias.double() - shift).float()
        self.activation, self.output = activation, output
        self.few_rows: FewRowsLinear | None = None
        if can_multiply_few_rows():
            own_bias = torch.zeros(len(weight)) if bias is None else bias
            self.few_rows = FewRowsLinear(integers, self.scales, own_bias, scale, zero)
        self.bytes = integers.numel() * (1 if self.few_rows is None else 2)
        # Looking operators up takes a noticeable part of a short text's time.
        self._multiply = torch.ops.onednn.qlinear_pointwise.default
        self._multiply_and_add = torch.ops.onednn.qlinear_pointwise.binary
        name, algorithm = ACTIVATIONS[activation]
        self._inputs = (scale, 0, self.weight, self.scales, self.zeros, self.bias, *(output or (1.0, 0)))
        self._outputs: tuple[Any, ...] = (name, [], algorithm)

    def __call__(self, x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return (rows, out) for x (rows, in) uint8, in `dtype`, or in uint8 if `output` was given."""
        out_dtype = dtype if self.output is None else torch.uint8
        result: torch.Tensor = self._multiply(x, *self._inputs, out_dtype, *self._outputs)
        return result

    def add_to(self, x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Add x Wᵀ + b for x (rows, in) uint8 to `total` (rows, out) float32, in its place, and return it.

        The layer must have no activation and outputs in a float type.
        """
        scale, zero, weight, scales, zeros, bias, *output = self._inputs
        post: tuple[Any, ...] = (torch.float32, 1.0, 0, "sum", 1.0, "none", [], "")
        result: torch.Tensor = self._multiply_and_add(
            x, scale, zero, weight, scales, zeros, total, bias, *output, *post
        )
        return result


@cache
def can_multiply() -> bool:
    """Return whether this processor and this PyTorch multiply 8-bit integers fast and exactly."""
    backend: Any = torch.backends.mkldnn
    names = ("qlinear_prepack", "qlinear_pointwise")
    is_there = backend.is_available() and all(hasattr(torch.ops.onednn, name) for name in names)
    return is_there and bool(hardware.list_cpu_flags() & VNNI)
