"""How far the vectors of different inputs have become the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Collapse(NamedTuple):
    """How far vectors are the same.

    Attributes:
        mean_cosine: the mean cosine of two different vectors; 1 if all have one direction.
        effective_rank: exp of the entropy of the singular values of the centred vectors; 0 if all are equal.
    """

    mean_cosine: float
    effective_rank: float


def measure_collapse(vectors: Array) -> Collapse:
    """Measure vectors (n, d) of n > 1 different inputs.

    Source of the rank: Roy and Vetterli, "The effective rank", EUSIPCO 2007, definition 1.
    """
    values = np.asarray(vectors, dtype=np.float64)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    n = len(unit)
    mean_cosine = (np.square(unit.sum(0)).sum() - np.square(unit).sum()) / (n * (n - 1))
    singular_values = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    total = singular_values.sum()
    if total < 1e-6:
        return Collapse(float(mean_cosine), 0.0)
    shares = singular_values[singular_values > 0] / total
    return Collapse(float(mean_cosine), float(np.exp(-(shares * np.log(shares)).sum())))
