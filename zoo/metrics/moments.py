"""The moments of vectors: sums that are collected block by block, and from which every figure of the spectrum follows.

The state has a fixed size, whatever the number of vectors, and two states merge by addition. It is float64, because the
eigenvalues of a float32 sum are off by more than the figures differ.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError

Array = npt.NDArray[np.float64]
BLOCK = 4096
"""Vectors that are read at once."""


class Moments:
    """Sums over vectors of d components.

    Attributes:
        dim: components of a vector.
        count: vectors that were seen.
        weight: the sum of their weights; equal to `count` without weights.
        unit_weight, unit_weight_second: sums of the weights, and of their squares, of the vectors whose norm is not 0.
        zero_count: vectors whose norm is 0. They count in the raw sums only.
        total: (d,) float64, the weighted sum of the vectors.
        second: (d, d) float64, the weighted sum of x xᵀ.
        unit_total, unit_second: the same of the vectors at norm 1.
        norm_total, norm_second: weighted sums of the norms and of their squares.
        lowest, highest: (d,) float64, the range of each component.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.count, self.zero_count = dim, 0, 0
        self.weight = self.unit_weight = self.unit_weight_second = self.norm_total = self.norm_second = 0.0
        self.total, self.unit_total = np.zeros(dim), np.zeros(dim)
        self.second, self.unit_second = np.zeros((dim, dim)), np.zeros((dim, dim))
        self.lowest, self.highest = np.full(dim, np.inf), np.full(dim, -np.inf)

    @classmethod
    def collect(cls, vectors: Any) -> Self:
        """Return the moments of vectors (n, d), or of an iterable of blocks (n, d). Raises ZooError if there are none."""
        moments: Self | None = None
        for block in iterate_blocks(vectors):
            moments = cls(block.shape[1]) if moments is None else moments
            moments.add(block)
        if moments is None or not moments.count:
            raise ZooError("there are no vectors: give at least one")
        return moments

    def add(self, vectors: Any, weights: Any = None) -> None:
        """Add vectors (n, d), with a weight (n,) each; a weight is a probability or any number that is not negative.

        Raises ZooError for another width, for a number that is not finite, and for negative weights.
        """
        rows = np.asarray(vectors, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ZooError(f"vectors of the shape {rows.shape} do not fit: give (n, {self.dim})")
        if not np.isfinite(rows).all():
            place = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
            raise ZooError(f"vector {self.count + place} is not finite: encode it again, or leave it out")
        shares = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        if shares.shape != (len(rows),) or not np.isfinite(shares).all() or (shares < 0).any():
            raise ZooError("weights: give one number from 0 up for each vector")
        if not len(rows):
            return
        norms = np.linalg.norm(rows, axis=1)
        is_zero = norms == 0
        unit = rows / np.where(is_zero, 1.0, norms)[:, None]
        # Without weights both factors of a product are one array, and numpy then computes half of the symmetric result.
        weighted, weighted_unit = (rows, unit) if weights is None else (rows * shares[:, None], unit * shares[:, None])
        self.count += len(rows)
        self.zero_count += int(is_zero.sum())
        self.weight += float(shares.sum())
        self.unit_weight += float(shares[~is_zero].sum())
        self.unit_weight_second += float(np.square(shares[~is_zero]).sum())
        self.total += weighted.sum(0)
        self.second += weighted.T @ rows
        self.unit_total += weighted_unit.sum(0)
        self.unit_second += weighted_unit.T @ unit
        self.norm_total += float(shares @ norms)
        self.norm_second += float(shares @ norms**2)
        np.minimum(self.lowest, rows.min(0), out=self.lowest)
        np.maximum(self.highest, rows.max(0), out=self.highest)

    def merge(self, other: Moments) -> None:
        """Add the moments of other vectors of the same width, for example those that another process saw."""
        if other.dim != self.dim:
            raise ZooError(f"moments of {other.dim} components do not fit to {self.dim}")
        sums = ("count", "zero_count", "weight", "unit_weight", "unit_weight_second", "norm_total", "norm_second")
        for name in sums:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("total", "second", "unit_total", "unit_second"):
            getattr(self, name)[...] += getattr(other, name)
        np.minimum(self.lowest, other.lowest, out=self.lowest)
        np.maximum(self.highest, other.highest, out=self.highest)

    @property
    def mean(self) -> Array:
        """The mean vector (d,)."""
        mean: Array = self.total / self.weight
        return mean

    @property
    def covariance(self) -> Array:
        """The covariance (d, d) of the vectors, divided by their weight."""
        covariance: Array = self.second / self.weight - np.outer(self.mean, self.mean)
        return covariance


def iterate_blocks(vectors: Any) -> Iterable[npt.NDArray[Any]]:
    """Yield blocks (n, d) of an array (m, d), for example a memory-mapped one, or of an iterable of blocks.

    Raises ZooError for an array that does not have two axes, and for values that are not numbers.
    """
    if hasattr(vectors, "shape"):
        if len(vectors.shape) != 2:
            raise ZooError(f"vectors of the shape {tuple(vectors.shape)}: give (n, d)")
        vectors = _cut_blocks(vectors)
    for block in vectors:
        rows = np.asarray(block)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub":
            raise ZooError(f"a block of the shape {rows.shape} and the type {rows.dtype}: give numbers (n, d)")
        yield rows


def _cut_blocks(array: Any) -> Iterator[Any]:
    """Yield blocks of an array. Pages of a file that is mapped for reading are given back after each block.

    Otherwise the whole file would count as memory of the process.
    """
    mapping = getattr(array, "_mmap", None) if getattr(array, "mode", "") == "r" else None
    can_release = hasattr(mapping, "madvise") and hasattr(mmap, "MADV_DONTNEED")
    for start in range(0, array.shape[0], BLOCK):
        block = array[start : start + BLOCK]
        yield np.array(block) if can_release else block
        if mapping is not None and can_release:
            mapping.madvise(mmap.MADV_DONTNEED)
