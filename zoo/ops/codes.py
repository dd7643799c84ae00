"""Binary codes: rounding with a straight-through gradient, packing, Hamming distance on packed bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np, torch = lazy("numpy"), lazy("torch")


def round_sigmoid(logits: torch.Tensor) -> torch.Tensor:
    """The bits of sigmoid(logits) rounded, as -1 and 1 float: bits as 0 and 1 with an output bias say the same."""
    return (logits > 0).to(logits.dtype) * 2 - 1


def straight_through(logits: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient at the logits from that at the code: rounding is passed as if it were the identity, the sigmoid is not
    (Grzegorczyk and Kurdziel, arXiv 1611.01116, section 2). 2 sigmoid(z) - 1 has the slope (1 - tanh(z/2)^2) / 2."""
    return gradient * (1 - torch.tanh(logits / 2).square()) / 2


def pack(vectors: np.ndarray) -> np.ndarray:
    """(n, ceil(bits / 8)) uint8 of (n, bits): a component above 0 is a 1; the last byte is filled with zeros."""
    return np.packbits(np.asarray(vectors) > 0, axis=1)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) int32 distances in bits between packed codes (n, bytes) and (m, bytes), without unpacking them."""
    out = np.empty((len(a), len(b)), dtype=np.int32)
    for row, code in zip(out, a, strict=True):  # row by row: the whole (n, m, bytes) would not fit
        row[:] = np.bitwise_count(code ^ b).sum(axis=1, dtype=np.int32)
    return out
