"""Compare vectors of the same inputs: how far their directions are apart, and which arithmetic explains the distance.

A direction is a vector divided by its norm, and a distance is Euclidean: d² = 2 − 2 · cosine. Norms are compared apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Precision(NamedTuple):
    """An arithmetic, and the largest distances that it explains: of any input, and on average."""

    name: str
    worst: float
    mean: float


PRECISIONS = (
    Precision("fp32", 1e-4, 1e-4),
    Precision("fp16", 6e-3, 3e-3),
    Precision("bf16", 0.06, 0.03),
    Precision("int8", 0.32, 0.18),
)
"""From the finest to the coarsest. As cosines, the worst are 1 − 5e-9, 0.99998, 0.9982 and 0.9488."""
MIN_SPREAD = 0.04
"""Smallest median of the distances, as a share of the largest, that is noise of an arithmetic. Rounding changes every vector, but
a fault such as a cut changes those of a few texts."""


@dataclass(frozen=True)
class Fit:
    """How near vectors are to expected ones.

    Attributes:
        distances: (n,) between the directions.
        rank: the place in PRECISIONS of the finest arithmetic that explains them; len(PRECISIONS) if none does.
    """

    distances: Array
    rank: int

    @property
    def precision(self) -> str | None:
        """The name of the arithmetic, or None."""
        return PRECISIONS[self.rank].name if self.rank < len(PRECISIONS) else None

    @property
    def worst(self) -> float:
        """The largest distance."""
        return float(self.distances.max())

    @property
    def cosines(self) -> Array:
        """The cosines (n,)."""
        return 1 - self.distances**2 / 2

    def explains_better(self, other: Fit) -> bool:
        """Whether a finer arithmetic explains these distances than the other ones, or they are three times smaller."""
        return self.rank < len(PRECISIONS) and (self.rank < other.rank or self.worst * 3 < other.worst)


def to_directions(vectors: npt.ArrayLike) -> Array:
    """Return vectors (n, d) divided by their norms, as float64. A vector of zeros stays."""
    rows = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: Array = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return directions


def compare(vectors: npt.ArrayLike, expected: npt.ArrayLike) -> Fit:
    """Compare vectors (n, d) with expected ones."""
    distances = np.linalg.norm(to_directions(vectors) - to_directions(expected), axis=1)
    return Fit(distances, find_rank(distances))


def compare_common(vectors: Array, expected: Array) -> Fit:
    """Compare the components that both have: the first ones."""
    width = min(vectors.shape[1], expected.shape[1])
    return compare(vectors[:, :width], expected[:, :width])


def find_rank(distances: Array) -> int:
    """Return the place in PRECISIONS of the finest arithmetic that explains distances (n,); len(PRECISIONS) if none does."""
    worst, mean, median = distances.max(), distances.mean(), np.median(distances)
    for place, precision in enumerate(PRECISIONS):
        is_noise = place == 0 or median >= MIN_SPREAD * worst
        if worst <= precision.worst and mean <= precision.mean and is_noise:
            return place
    return len(PRECISIONS)


def find_order(vectors: Array, expected: Array) -> list[int] | None:
    """Return the places at which the expected vectors stand if they are there in another order, else None."""
    from scipy.optimize import linear_sum_assignment

    width = min(vectors.shape[1], expected.shape[1])
    cosines = to_directions(expected[:, :width]) @ to_directions(vectors[:, :width]).T
    places = [int(place) for place in linear_sum_assignment(cosines, maximize=True)[1]]  # equal vectors may be swapped
    if places == list(range(len(places))):
        return None
    return places if compare(vectors[places][:, :width], expected[:, :width]).precision is not None else None


def correlate_structure(vectors: Array, expected: Array) -> float:
    """Return Pearson's correlation of the cosines between inputs in two spaces. Their components need not correspond."""
    upper = np.triu_indices(len(vectors), 1)
    first, second = (to_directions(rows) @ to_directions(rows).T for rows in (vectors, expected))
    if first[upper].std() == 0 or second[upper].std() == 0:
        return 0.0
    return float(np.corrcoef(first[upper], second[upper])[0, 1])
