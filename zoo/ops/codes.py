"""Binary codes: rounding with a straight-through gradient, packing, Hamming distance on packed bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np, torch = lazy("numpy"), lazy("torch")


def straight_through(logits: torch.Tensor, gradient: torch.Tensor, scale: float) -> torch.Tensor:
    """The gradient at the logits from that at `scale` times their signs. Rounding is passed as if it were the identity, the
    sigmoid is not (Grzegorczyk and Kurdziel, arXiv 1611.01116, section 2): 2 sigmoid(z / scale) - 1, whose slope at 0 makes
    a sign stand for a logit of its scale, has the slope (1 - tanh(z / (2 scale))^2) / (2 scale), here times 2 scale."""
    return gradient * (1 - torch.tanh(logits / (2 * scale)).square())


def iterative_quantisation(rows: torch.Tensor, bits: int, seed: int, rounds: int = 50) -> torch.Tensor:
    """(d, bits) orthonormal columns, bits <= d: the leading axes of the centred `rows` (n, d), turned so that their signs lose
    least (Gong and Lazebnik, CVPR 2011, sections 2 and 3)."""
    axes = torch.linalg.eigh(rows.T @ rows)[1].flip(1)[:, :bits]
    reduced = rows @ axes
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(bits, bits, generator=generator, dtype=rows.dtype))[0].to(rows.device)
    for _ in range(rounds):
        left, _, right = torch.linalg.svd(torch.sign(reduced @ turn).T @ reduced)
        turn = (left @ right).T
    return axes @ turn


def pack(vectors: np.ndarray) -> np.ndarray:
    """(n, ceil(bits / 8)) uint8 of (n, bits): a component above 0 is a 1; the last byte is filled with zeros."""
    return np.packbits(np.asarray(vectors) > 0, axis=1)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) int32 distances in bits between packed codes (n, bytes) and (m, bytes), without unpacking them."""
    out = np.empty((len(a), len(b)), dtype=np.int32)
    for row, code in zip(out, a, strict=True):  # row by row: the whole (n, m, bytes) would not fit
        row[:] = np.bitwise_count(code ^ b).sum(axis=1, dtype=np.int32)
    return out
