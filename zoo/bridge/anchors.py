"""Anchors: inputs that several encoders read, by whose vectors a vector is described in the same way for each of them.

Source: Moschella et al., "Relative representations enable zero-shot latent space communication", arXiv 2209.15430, equation 1.
The vectors are centred by the mean of the anchors, which is not part of that equation. So a shift of the space changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """The anchors of one space.

    Attributes:
        mean: (d,) the mean of the anchors, or zeros.
        unit: (m, d) the anchors without the mean, of norm 1.
    """

    mean: Array
    unit: Array

    @classmethod
    def place(cls, vectors: npt.NDArray[Any], *, is_centred: bool = True) -> Self:
        """Return the anchors of vectors (m, d)."""
        rows = np.asarray(vectors, np.float64)
        mean = rows.mean(0) if is_centred else np.zeros(rows.shape[1])
        return cls(mean, normalise_rows(rows - mean))

    def compute_cosines(self, vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the relative vectors (n, m) of vectors (n, d): the cosine of each with each anchor."""
        cosines = normalise_rows(np.asarray(vectors, np.float64) - self.mean) @ self.unit.T
        return np.ascontiguousarray(cosines, np.float32)


def normalise_rows(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return vectors (n, d) of norm 1, in the dtype that they have. A zero vector stays."""
    normalised: npt.NDArray[Any] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalised
