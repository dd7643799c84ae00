"""How much of a search is left if mapped queries search the vectors of another encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.ops import exact_search

Vectors = npt.NDArray[np.float32]

TOP = 10
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Kept:
    """A mean over queries, with an interval of LEVEL by a bootstrap over the queries."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def normalise(vectors: npt.NDArray[Any]) -> Vectors:
    """Return float32 vectors of unit norm. A zero vector stays."""
    rows = np.asarray(vectors, np.float32)
    normalised: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return normalised


def search(
    queries: Vectors, documents: Vectors, top: int = TOP, own: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Return the numbers (m, top) of the nearest documents. `own` is the document (m,) that each query must not get."""
    excluded = None if own is None else (np.arange(len(queries)), own)
    return exact_search.search(queries, documents, top, excluded=excluded)[1]


def count_common(found: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the share (m,) of the wanted rows (m, k) that are among the found ones (m, j)."""
    shares: npt.NDArray[np.float64] = (wanted[:, :, None] == found[:, None, :]).any(2).mean(1)
    return shares


def estimate(values: npt.NDArray[np.float64], seed: int) -> Kept:
    """Return the mean of values (m,), and its interval."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Kept(float(values.mean()), float(low), float(high))
