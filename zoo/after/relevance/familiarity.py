"""How much a query resembles those of the fit, and how random documents score for it.

Both read the query vector alone, through a few leading directions of the queries and of the documents. A query that lies outside
the directions of all known queries is probably foreign, whatever it is about. This holds also for kinds of foreign queries that
the fit has not seen, which a network on the whole vector does not recognise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_RANK = 128
MAX_BYTES = 90_000
"""Limit of the stored directions of the queries. Those of the documents take a quarter."""
ROWS_PER_DIRECTION = 8
TINY = 1e-9


@dataclass(frozen=True)
class Directions:
    """Mean and leading principal directions of vectors.

    Attributes:
        mean: (d,) float32.
        axes: (r, d) float16 with nearly orthonormal rows.
        variances: (r,) float32, the variance along each row.
        rest: the mean variance along any other direction.
    """

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float16]
    variances: npt.NDArray[np.float32]
    rest: float

    @classmethod
    def fit(cls, vectors: npt.NDArray[np.float32], max_bytes: int) -> Directions:
        """Fit them to vectors (n, d), with as many rows as `max_bytes` and the number of vectors allow."""
        count, dim = vectors.shape
        rank = max(1, min(MAX_RANK, dim // 2, count // ROWS_PER_DIRECTION, max_bytes // (2 * dim)))
        mean = vectors.mean(0, dtype=np.float64)
        centred = vectors - mean
        values, axes = np.linalg.eigh(centred.T @ centred / max(1, count))
        leading = values[::-1][:rank].clip(min=0)
        rest = max(float(values.sum() - leading.sum()), 0.0) / max(1, dim - rank)
        rows = axes[:, ::-1][:, :rank].T
        rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]  # eigh leaves the sign open
        return cls(mean.astype(np.float32), rows.astype(np.float16), leading.astype(np.float32), rest)

    def project(self, vectors: npt.NDArray[np.float32], *, centre: bool = True) -> tuple[Floats, Floats]:
        """Return coordinates (m, r) of vectors (m, d), and the squared length (m,) that the directions miss."""
        centred = vectors.astype(np.float64) - (self.mean if centre else 0.0)
        coordinates = centred @ self.axes.T.astype(np.float64)
        missed = ((centred**2).sum(1) - (coordinates**2).sum(1)).clip(min=0)
        return coordinates, missed

    def tensors(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        arrays = {"mean": self.mean, "axes": self.axes, "variances": self.variances}
        return {f"{prefix}.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def read(cls, prefix: str, tensors: Mapping[str, npt.NDArray[Any]], rest: float) -> Directions:
        """Return what `tensors` gave."""
        mean, axes, variances = (tensors[f"{prefix}.{name}"] for name in ("mean", "axes", "variances"))
        return cls(mean, axes, variances, rest)


@dataclass(frozen=True)
class Familiarity:
    """Features of query vectors: where they lie among known queries, and how random documents score for them."""

    queries: Directions
    documents: Directions

    @classmethod
    def fit(cls, queries: npt.NDArray[np.float32], documents: npt.NDArray[np.float32]) -> Familiarity:
        """Fit the directions of queries (m, d) and documents (n, d)."""
        return cls(Directions.fit(queries, MAX_BYTES), Directions.fit(documents, MAX_BYTES // 4))

    def score_random_documents(self, vectors: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (m,) of the inner products of queries (m, d) with random documents."""
        coordinates, missed = self.documents.project(vectors, centre=False)
        variance = (coordinates**2) @ self.documents.variances.astype(np.float64) + missed * self.documents.rest
        return vectors.astype(np.float64) @ self.documents.mean.astype(np.float64), np.sqrt(variance)

    def measure(self, vectors: npt.NDArray[np.float32]) -> Floats:
        """Return features (m, 4) of queries (m, d).

        They are the logarithms of the lengths that the directions of queries and of documents miss, and mean and deviation of
        the scores of random documents.
        """
        missed = [np.log(np.sqrt(part.project(vectors)[1]) + TINY) for part in (self.queries, self.documents)]
        return np.stack([*missed, *self.score_random_documents(vectors)], axis=1)

    def whiten(self, vectors: npt.NDArray[np.float32], count: int) -> Floats:
        """Return the first `count` coordinates of queries (m, d) in their own directions, each with unit variance."""
        coordinates, _ = self.queries.project(vectors)
        deviations = np.sqrt(self.queries.variances.astype(np.float64)) + TINY
        whitened: Floats = (coordinates / deviations)[:, :count]
        return whitened
