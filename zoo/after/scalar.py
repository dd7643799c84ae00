"""Scalar quantisation: a byte for each component, in 255 equal intervals of a stored range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from zoo.after.material import Vectors
from zoo.core.errors import ArtefactError

LEVELS = 255


class Ranges(NamedTuple):
    """The range of each component.

    Attributes:
        low: (d,) float32, the value of the code 0.
        width: (d,) float32, the difference of two neighbouring codes; above 0.
    """

    low: Vectors
    width: Vectors

    @classmethod
    def fit(cls, vectors: Vectors, clip: float) -> Self:
        """Return the ranges of vectors (n, d). `clip` is the share of values that is cut off at either end."""
        if clip:
            low, high = np.quantile(vectors, [clip, 1 - clip], axis=0)
        else:
            low, high = vectors.min(axis=0), vectors.max(axis=0)
        width = (high.astype(np.float32) - low.astype(np.float32)) / np.float32(LEVELS)
        return cls(low.astype(np.float32), np.where(width > 0, width, np.float32(1)).astype(np.float32))

    @classmethod
    def from_saved(cls, step: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the ranges among the tensors of a step. Raise ArtefactError for a width that is not above 0."""
        if not (tensors["width"] > 0).all():
            raise ArtefactError(f"the step {step} has an interval of no width; fit it again")
        return cls(tensors["low"], tensors["width"])

    def encode(self, vectors: Vectors) -> npt.NDArray[np.uint8]:
        """Return the nearest codes (n, d) uint8. A value outside its range gets the code of the nearer end."""
        levels = np.rint((vectors - self.low) / self.width)
        codes: npt.NDArray[np.uint8] = np.clip(levels, 0, LEVELS).astype(np.uint8)
        return codes

    def decode(self, codes: npt.NDArray[np.uint8]) -> Vectors:
        """Return the values (n, d) float32 of codes."""
        values: Vectors = codes.astype(np.float32) * self.width + self.low
        return values
