"""Figures of the nearest neighbours of vectors: intrinsic dimension, hubs, and vectors that are equal or nearly so.

Every figure depends on the number of vectors. Compare only figures of equally many vectors, by default 10,000 that are drawn by
a seed. The estimates of dimension are those of scikit-dimension, on vectors of norm 1 without equal ones.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core import scikit_dimension
from zoo.core.errors import ZooError
from zoo.ops import exact_search

DRAWN = 10_000
LEAST_DISTINCT = 100
"""With fewer distinct vectors an intrinsic dimension says nothing."""
NEIGHBOURS = 20
"""As the authors of the maximum-likelihood estimate set it for representations."""
LARGEST_SCALE = 128
"""Neighbours up to which the dimension is estimated scale by scale."""
HUB_NEIGHBOURS = 10
SAME = 1e-6
"""Unit vectors whose components agree to this are equal."""
NEAR_COSINE = 0.999
SAME_COSINE, MOSTLY_TIED = 1e-6, 0.5
"""Cosines that differ by less are equal; above this share of such pairs, ratios of distances say nothing."""


class NoDimensionError(ZooError):
    """An intrinsic dimension says nothing about these vectors.

    Attributes:
        drawn: vectors that were looked at.
        distinct: how many of them differ.
    """

    def __init__(self, message: str, drawn: int, distinct: int) -> None:
        super().__init__(message)
        self.drawn, self.distinct = drawn, distinct


class FewDistinctError(NoDimensionError):
    """Too few vectors are distinct."""

    def __init__(self, drawn: int, distinct: int) -> None:
        message = (
            f"{distinct} of {drawn:,} vectors are distinct, and an intrinsic dimension needs {LEAST_DISTINCT}: give more "
            "different inputs; if they differ, the encoder has collapsed"
        )
        super().__init__(message, drawn, distinct)


class TiedDistancesError(NoDimensionError):
    """The two nearest neighbours of most vectors are equally far, as those of short codes are."""

    def __init__(self, drawn: int, distinct: int) -> None:
        message = (
            "the two nearest neighbours of most vectors are equally far, as with codes: there is no intrinsic dimension"
        )
        super().__init__(message, drawn, distinct)


class Neighbourhood(NamedTuple):
    """Figures of vectors (n, d) by cosine.

    Attributes:
        drawn: vectors that were drawn.
        distinct: how many of them differ.
        twonn: intrinsic dimension by the two nearest neighbours (Facco et al. 2017, "Estimating the intrinsic dimension of
            datasets by a minimal neighborhood information", equation 5), by a line through 0 without the largest tenth.
        mle: intrinsic dimension by 20 neighbours (Levina and Bickel 2004, equation 8; MacKay and Ghahramani's mean of inverses).
        gride: for n = 1, 2, 4 …, neighbours, the dimension by the ratio of the distances of the neighbours 2 n and n, and its
            standard error (Denti et al. 2022, "The generalized ratios intrinsic dimension estimator", section 2.3).
        hubness: skewness of how often a vector is among the ten nearest of others; 0 without hubs (Radovanović et al. 2010,
            "Hubs in space", section 3).
        near_pairs: pairs of row numbers and their cosine: vectors that differ but have a cosine above 0.999, the nearest first.
    """

    drawn: int
    distinct: int
    twonn: float
    mle: float
    gride: tuple[tuple[int, float, float], ...]
    hubness: float
    near_pairs: tuple[tuple[int, int, float], ...]


def draw_rows(count: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of the numbers 0 to `count` - 1, drawn by the seed, in ascending order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def find_distinct(vectors: Any) -> npt.NDArray[np.int64]:
    """Return the first row (m,) of each group of equal directions among vectors (n, d). Vectors of norm 0 are left out."""
    unit, kept = _normalise(vectors)
    keys = np.round(unit / SAME).astype(np.int64)
    firsts = np.sort(np.unique(keys, axis=0, return_index=True)[1])
    numbers: npt.NDArray[np.int64] = kept[firsts]
    return numbers


def measure_neighbours(vectors: Any, *, most: int = DRAWN, seed: int = 42) -> Neighbourhood:
    """Measure at most `most` of the vectors (n, d), drawn by the seed.

    Equal vectors are removed first: a single pair of them would make a ratio of distances infinite. Raises FewDistinctError
    with fewer than 100 distinct vectors, TiedDistancesError for codes, and ZooError without scikit-dimension.
    """
    rows = draw_rows(len(vectors), most, seed)
    drawn = np.asarray(vectors[rows], np.float32)
    distinct = find_distinct(drawn)
    if len(distinct) < LEAST_DISTINCT:
        raise FewDistinctError(len(drawn), len(distinct))
    unit, _ = _normalise(drawn[distinct])
    skdim = _import_skdim()
    own = np.arange(len(unit))
    cosines, ids = exact_search.search(unit, unit, HUB_NEIGHBOURS, excluded=(own, own))
    if np.mean(np.abs(cosines[:, 0] - cosines[:, 1]) <= SAME_COSINE) > MOSTLY_TIED:
        raise TiedDistancesError(len(drawn), len(distinct))
    largest = min(LARGEST_SCALE, 1 << int(np.log2(len(unit) // 4)))
    gride = skdim.id.GRIDE(multiscale=True, range_max=largest).fit(unit)
    curve = zip(gride.scales_, gride.dimension_scales_, gride.error_scales_, strict=True)
    return Neighbourhood(
        len(drawn),
        len(distinct),
        float(skdim.id.TwoNN().fit(unit).dimension_),
        float(skdim.id.MLE(K=NEIGHBOURS).fit(unit).dimension_),
        tuple((int(scale), float(dimension), float(error)) for scale, dimension, error in curve),
        measure_hubness(ids, len(unit)),
        _list_near_pairs(rows[distinct], ids[:, 0], cosines[:, 0]),
    )


def _import_skdim() -> Any:
    try:
        return importlib.import_module("skdim")
    except ImportError:
        raise ZooError(scikit_dimension.NEEDED) from None


def measure_hubness(ids: Any, count: int) -> float:
    """Return the skewness of how often each of `count` vectors is among the neighbours `ids` (n, k) of others."""
    from scipy import stats

    counts = np.bincount(np.asarray(ids).ravel(), minlength=count)
    return float(stats.skew(counts)) if counts.std() > 0 else 0.0


def _normalise(vectors: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return vectors of norm 1 and their row numbers, without those of norm 0."""
    rows = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=1)
    kept = np.flatnonzero(norms > 0)
    return (rows[kept] / norms[kept, None]).astype(np.float32), kept


def _list_near_pairs(rows: Any, nearest: Any, cosines: Any) -> tuple[tuple[int, int, float], ...]:
    """Return pairs of row numbers above NEAR_COSINE, each once, the nearest first."""
    pairs = {}
    for number, (other, cosine) in enumerate(zip(nearest.tolist(), cosines.tolist(), strict=True)):
        if cosine > NEAR_COSINE:
            pairs[min(number, other), max(number, other)] = cosine
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return tuple((int(rows[a]), int(rows[b]), float(cosine)) for (a, b), cosine in ordered)
