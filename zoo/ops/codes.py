"""Codes: rounding with a straight-through gradient, packing of bits and of small numbers, and Hamming distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


def compute_straight_through_gradient(logits: torch.Tensor, gradient: torch.Tensor, scale: float) -> torch.Tensor:
    """Compute the gradient at the logits from the gradient at `scale` times their signs.

    The gradient passes the rounding as if it were the identity, but not the sigmoid (Grzegorczyk and Kurdziel,
    arXiv 1611.01116, section 2). The sigmoid is 2σ(z / scale) - 1. Its slope is (1 - tanh²(z / (2 scale))) / (2 scale), here
    multiplied by 2 scale, so that it is 1 at 0.
    """
    return gradient * (1 - torch.tanh(logits / (2 * scale)).square())


def fit_iterative_quantisation(rows: torch.Tensor, bits: int, seed: int, rounds: int = 50) -> torch.Tensor:
    """Return (d, bits) orthonormal columns whose projections lose least by rounding to signs; bits <= d.

    They are the leading principal axes of the centred `rows` (n, d), rotated in `rounds` iterations (Gong and Lazebnik,
    CVPR 2011, sections 2 and 3).
    """
    axes = torch.linalg.eigh(rows.T @ rows)[1].flip(1)[:, :bits]
    reduced = rows @ axes
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(bits, bits, generator=generator, dtype=rows.dtype))[0].to(rows.device)
    for _ in range(rounds):
        left, _, right = torch.linalg.svd(torch.sign(reduced @ rotation).T @ reduced)
        rotation = (left @ right).T
    columns: torch.Tensor = axes @ rotation
    return columns


def pack(vectors: Array) -> Array:
    """Pack (n, bits) to (n, ceil(bits / 8)) uint8. A component above 0 is a 1; the last byte is filled with zeros."""
    return np.packbits(np.asarray(vectors) > 0, axis=1)


def pack_numbers(numbers: Array, widths: Array) -> Array:
    """Pack numbers (n, k), column j of `widths[j]` bits, to (n, ceil(sum(widths) / 8)) uint8 without gaps.

    The highest bit of a number comes first, and the last byte is filled with zeros. A width is 1 … 8.
    """
    columns, shifts = _list_bits(widths)
    bits = (np.asarray(numbers, np.uint8)[:, columns] >> shifts) & 1
    return np.packbits(bits, axis=1)


def unpack_numbers(packed: Array, widths: Array) -> Array:
    """Return the numbers (n, k) uint8 that `pack_numbers` packed."""
    columns, shifts = _list_bits(widths)
    bits = np.unpackbits(packed, axis=1, count=len(columns)) << shifts
    return np.add.reduceat(bits, np.flatnonzero(np.diff(columns, prepend=-1)), axis=1, dtype=np.uint8)


def _list_bits(widths: Array) -> tuple[Array, Array]:
    """Return the column and the place, counted from the lowest, of every bit of a packed row."""
    widths = np.asarray(widths, np.int64)
    columns = np.repeat(np.arange(len(widths)), widths)
    places = widths[columns] - 1 - (np.arange(len(columns)) - np.repeat(np.cumsum(widths) - widths, widths))
    return columns, places.astype(np.uint8)


def compute_hamming_distances(a: Array, b: Array) -> Array:
    """Return the distances (n, m) int32, in bits, between packed codes (n, bytes) and (m, bytes)."""
    distances = np.empty((len(a), len(b)), dtype=np.int32)
    for row, code in zip(distances, a, strict=True):  # row by row, because (n, m, bytes) would not fit into memory
        row[:] = np.bitwise_count(code ^ b).sum(axis=1, dtype=np.int32)
    return distances
