"""`PackedLinear`: a linear layer for inference on a CPU, whose weights lie in the order that is multiplied fastest.

oneDNN multiplies with the packed copy in float32, and in bfloat16 if the processor supports it. PyTorch's own compiler calls the
same operators. In float32 PyTorch would otherwise call its BLAS, which is slower, and much slower on processors that the BLAS
was not written for. Where oneDNN cannot be used, PyTorch multiplies as usual.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

PACKING_ROWS = 2048  # the number of input rows that oneDNN packs the weights for
ACTIVATIONS = {"none": ("none", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
"""Activations by name: oneDNN's name and algorithm."""


class PackedLinear:
    """Computes activation(x Wᵀ + b) for inference on a CPU, and optionally adds a tensor to it.

    Args:
        weight: (out, in) float32 or bfloat16. It is copied if it can be packed, and shared otherwise.
        bias: (out,) of the same dtype, or None.
        activation: a key of ACTIVATIONS, computed in the same pass.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str = "none") -> None:
        self.bias, self.activation = bias, activation
        self.is_packed = can_pack(weight.dtype)
        if self.is_packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKING_ROWS)
            # Looking operators up takes a noticeable part of a short text's time.
            self._multiply, self._multiply_and_add = _find_operators()
            name, algorithm = ACTIVATIONS[activation]
            self._arguments: tuple[Any, ...] = (weight, bias, name, [], algorithm)
        self.weight = weight
        self.bytes = weight.numel() * weight.element_size() if not self.is_packed else int(_count_bytes(weight))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return (…, out) for x (…, in)."""
        if self.is_packed:
            result: torch.Tensor = self._multiply(x, *self._arguments)
            return result
        return activate(F.linear(x, self.weight, self.bias), self.activation)

    def add_to(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return `other` (…, out) plus the layer's output for x (…, in). The layer must have no activation."""
        if self.is_packed:
            total: torch.Tensor = self._multiply_and_add(x, other, self.weight, self.bias, "add")
            return total
        return F.linear(x, self.weight, self.bias).add_(other)


def activate(y: torch.Tensor, activation: str) -> torch.Tensor:
    """Return an activation of `y`, which may be overwritten. `activation` is a key of ACTIVATIONS."""
    if activation == "none":
        return y
    if activation == "relu":
        return y.relu_()
    return F.gelu(y, approximate="tanh" if activation == "gelu_tanh" else "none")


def pack_layer(layer: torch.nn.Linear) -> PackedLinear:
    """Pack the weights of a linear layer as they are now."""
    return PackedLinear(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


def _find_operators() -> tuple[Any, Any]:
    return torch.ops.mkldnn._linear_pointwise.default, torch.ops.mkldnn._linear_pointwise.binary


def _count_bytes(packed: torch.Tensor) -> int:
    return int(torch.ops.mkldnn._nbytes(packed))


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return whether oneDNN can multiply packed weights of `dtype` here.

    The operators are those that PyTorch's compiler calls. They are not documented, so each is looked up by name.
    """
    backend: Any = torch.backends.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported", "_nbytes")
    if not backend.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
