"""The steps `int8`, `binary` and `codes` of zoo in NumPy: float32 vectors to packed codes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import trellis
from .errors import PackError

Array = npt.NDArray[Any]
GRID = 1 << 20
"""Projections are rounded to multiples of 1 / GRID before they are compared with thresholds, as zoo does."""


class Int8:
    """A byte for each component, in 255 intervals of a stored range."""

    def __init__(self, fields: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        self.low, self.width = tensors["low"], tensors["width"]

    def encode(self, vectors: Array) -> Array:
        """Return codes (n, d) uint8 of vectors (n, d)."""
        return np.clip(np.rint((vectors - self.low) / self.width), 0, 255).astype(np.uint8)

    def decode(self, codes: Array) -> Array:
        """Return the vectors (n, d) float32 of codes (n, d)."""
        decoded: Array = codes.astype(np.float32) * self.width + self.low
        return decoded

    def transform_queries(self, vectors: Array) -> Array:
        """Return the queries as they are compared with decoded vectors."""
        return vectors


class Binary:
    """Signs of components, and with `rescore: int8` the codes of `Int8` behind them."""

    def __init__(self, fields: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        self.mean, self.size, self.query = tensors["mean"], tensors["size"], fields.get("query", "float")
        self.ranges = Int8(fields, tensors) if fields.get("rescore") == "int8" else None
        self.first_bytes = -(-len(self.mean) // 8)

    def encode(self, vectors: Array) -> Array:
        """Return packed signs (n, ceil(d / 8)) uint8; with rescoring, codes (n, d) follow in each row."""
        signs = np.packbits(vectors > self.mean, axis=1)
        return signs if self.ranges is None else np.hstack([signs, self.ranges.encode(vectors)])

    def decode(self, codes: Array) -> Array:
        """Return the vectors (n, d) float32 that codes stand for; with rescoring, those of its int8 codes."""
        if self.ranges is not None:
            return self.ranges.decode(codes[:, self.first_bytes :])
        signs = np.unpackbits(codes, axis=1, count=len(self.mean)).astype(np.float32) * 2 - 1
        if self.query == "signs":
            return signs
        vectors = signs * self.size[0] + self.mean
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        decoded: Array = np.divide(vectors * self.size[1], norms, out=np.zeros_like(vectors), where=norms > 0)
        return decoded

    def transform_queries(self, vectors: Array) -> Array:
        """Return the queries as they are compared with decoded vectors: floats, or signs of -1 and 1."""
        if self.ranges is not None or self.query == "float":
            return vectors
        return np.where(vectors > self.mean, np.float32(1), np.float32(-1))


class Codes:
    """Learned codes of a few bits for each component; see the step `codes` of zoo."""

    def __init__(self, fields: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        self.tensors, self.fields = tensors, fields
        self.widths = tensors["widths"].astype(np.int64)
        self.has_trellis = "trellis_levels" in tensors
        levels = tensors["trellis_levels" if self.has_trellis else "levels"]
        self.levels = np.split(levels, np.cumsum(1 << self.widths + self.has_trellis)[:-1])
        self.size = -(-int(self.widths.sum()) // 8)

    def encode(self, vectors: Array) -> Array:
        """Return packed codes (n, bytes) uint8 of vectors (n, d)."""
        rows = vectors.astype(np.float64)
        projected = self._transform(rows) @ self.tensors["rotation"].astype(np.float64).T - self.tensors["offset"]
        values = np.rint(projected * GRID) / GRID
        numbers = trellis.find_numbers(values, self.levels) if self.has_trellis else self._find_nearest(values)
        columns, shifts = self._list_bits()
        packed = np.packbits((numbers[:, columns] >> shifts) & 1, axis=1)
        if self.fields.get("norm"):
            norms = np.linalg.norm(rows, axis=1).clip(max=np.finfo("<f2").max).astype("<f2")
            packed = np.concatenate([packed, norms[:, None].view(np.uint8)], axis=1)
        return packed

    def decode(self, codes: Array) -> Array:
        """Return the vectors (n, d) float32 that codes stand for."""
        columns, shifts = self._list_bits()
        bits = np.unpackbits(codes[:, : self.size], axis=1, count=len(columns)) << shifts
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        numbers = np.add.reduceat(bits, starts, axis=1, dtype=np.uint8)
        if self.has_trellis:
            numbers = trellis.get_places(numbers)
        values = np.stack([levels[numbers[:, column]] for column, levels in enumerate(self.levels)], axis=1)
        decoded = _normalize(values @ self.tensors["decoder"].T + self.tensors["bias"])
        if self.fields.get("norm"):
            decoded = decoded * np.ascontiguousarray(codes[:, self.size :]).view("<f2").astype(np.float32)
        return decoded

    def transform_queries(self, vectors: Array) -> Array:
        """Return the queries as they are compared with decoded vectors."""
        if self.fields.get("symmetric"):
            return self.decode(self.encode(vectors))
        return self._transform(vectors) if "head.matrix" in self.tensors else vectors

    def _transform(self, rows: Array) -> Array:
        units = _normalize(rows)
        if "head.matrix" not in self.tensors:
            return units
        mapped = units @ self.tensors["head.matrix"].astype(rows.dtype).T
        if "head.inner" in self.tensors:
            hidden = units @ self.tensors["head.inner"].astype(rows.dtype).T + self.tensors["head.inner_bias"]
            mapped = mapped + np.maximum(hidden, 0) @ self.tensors["head.outer"].astype(rows.dtype).T
        return _normalize(mapped)

    def _find_nearest(self, values: Array) -> Array:
        numbers = np.empty(values.shape, np.uint8)
        for column, levels in enumerate(self.levels):
            thresholds = (levels[1:].astype(np.float64) + levels[:-1]) / 2
            numbers[:, column] = np.searchsorted(thresholds, values[:, column])
        return numbers

    def _list_bits(self) -> tuple[Array, Array]:
        """Return the column and the place, counted from the lowest, of every bit of a packed row."""
        columns = np.repeat(np.arange(len(self.widths)), self.widths)
        starts = np.repeat(np.cumsum(self.widths) - self.widths, self.widths)
        return columns, (self.widths[columns] - 1 - (np.arange(len(columns)) - starts)).astype(np.uint8)


KINDS: dict[str, Any] = {"int8": Int8, "binary": Binary, "codes": Codes}
"""The steps that a packed model can hold, by name."""


def open_step(entry: Mapping[str, Any], tensors: Mapping[str, Array]) -> Any:
    """Return the step of an entry of runtime.json. Raise PackError if it is unknown, or lacks a tensor."""
    name = entry.get("step")
    if name not in KINDS:
        raise PackError(f"the step {str(name)[:40]!r} is not known to this version; update embedding-zoo-runtime")
    try:
        return KINDS[name](entry.get("fields", {}), tensors)
    except KeyError as error:
        raise PackError(f"the step {name} lacks the tensor {error}; write the folder again") from None


def _normalize(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Array = rows / np.maximum(norms, 1e-12)
    return units
