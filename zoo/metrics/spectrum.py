"""How many directions vectors use: figures of the eigenvalues of their moments.

They order the widths of one model. They do not order its checkpoints or different models, and noise raises them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from zoo.metrics.moments import Moments

Array = npt.NDArray[np.float64]
RANKME_FLOOR = 1e-7
"""Added to each share, as in the paper of RankMe."""
DEFAULT_NOISE = 0.5
"""Mean squared error, of vectors of norm 1, up to which the coding rate counts."""
WHOLE_RATE = 0.99
"""The share of the coding rate that `components_in_use` keeps."""
SAME_CORRELATION = 1 - 1e-6
"""Two components with a higher correlation, of either sign, say the same."""
DEAD_RANGE = 1e-6
"""A component whose range is below this share of the widest one is dead."""


CURVE_POINTS = 64
"""Principal directions that a curve of the spectrum shows at most."""
TINY = 1e-300
"""Keeps a quotient finite whose numerator is 0 too."""


class Spectrum(NamedTuple):
    """Figures of vectors (n, d).

    Attributes:
        rankme: effective number of directions, not centred (Garrido et al. 2023, arXiv 2210.02885, equations 1 and 2).
        rankme_centred: the same of the vectors minus their mean.
        vendi, vendi_2, vendi_inf: effective number of different vectors by cosine, of order 1, 2 and infinity (Friedman and
            Dieng 2023, arXiv 2210.02410, equation 1; Pasarkar and Dieng 2024, arXiv 2310.12952).
        matrix_entropy: ln(vendi) / ln(min(n, d)), from 0 to 1.
        participation: (Σλ)² / Σλ² of the covariance.
        nuclear_norm: the sum of the singular values of the unit vectors, divided by n.
        coding_rate: nats for each vector of norm 1 at the stated noise (Ma et al. 2007, equation 4).
        components_in_use: principal directions that hold 99 % of the coding rate.
        mean_cosine: the mean cosine of two different vectors.
        cone: the share of the mean vector in the mean square; 1 if all vectors are equal.
        mean_norm: the mean norm.
        norm_spread: the standard deviation of the norms divided by their mean.
        zero_vectors: vectors whose norm is 0.
        dead_components: components with one value for all vectors.
        duplicate_components: components that equal an earlier one but for sign, scale and shift.
    """

    rankme: float
    rankme_centred: float
    vendi: float
    vendi_2: float
    vendi_inf: float
    matrix_entropy: float
    participation: float
    nuclear_norm: float
    coding_rate: float
    components_in_use: int
    mean_cosine: float
    cone: float
    mean_norm: float
    norm_spread: float
    zero_vectors: int
    dead_components: int
    duplicate_components: int


def measure_spectrum(moments: Moments, *, noise: float = DEFAULT_NOISE) -> Spectrum:
    """Compute the figures of moments. `noise` is the mean squared error of the coding rate, of vectors of norm 1.

    One eigen-decomposition of (d, d) for each of three sums. Equal vectors give 1, and no figure is NaN.
    """
    limit = min(moments.count, moments.dim)
    raw = find_eigenvalues(moments.second / moments.weight)
    centred = find_eigenvalues(moments.covariance)
    unit = find_eigenvalues(moments.unit_second / max(moments.unit_weight, TINY))
    shares = unit / max(unit.sum(), TINY)
    vendi = compute_exponential_entropy(shares)
    rates = 0.5 * np.log1p(moments.dim / noise * unit)
    total_square = float(np.square(moments.mean).sum())
    mean_norm = moments.norm_total / moments.weight
    norm_variance = max(0.0, moments.norm_second / moments.weight - mean_norm**2)
    return Spectrum(
        rankme=compute_rankme(raw[:limit]),
        rankme_centred=compute_rankme(centred[:limit]),
        vendi=vendi,
        vendi_2=1.0 / max(float(np.square(shares).sum()), TINY) if unit.any() else 1.0,
        vendi_inf=1.0 / max(float(shares.max()), TINY) if unit.any() else 1.0,
        matrix_entropy=float(np.log(vendi) / np.log(limit)) if limit > 1 else 0.0,
        participation=float(centred.sum() ** 2 / np.square(centred).sum()) if centred.any() else 1.0,
        nuclear_norm=float(np.sqrt(unit).sum() / np.sqrt(max(moments.count, 1))),
        coding_rate=float(rates.sum()),
        components_in_use=count_components(rates),
        mean_cosine=compute_mean_cosine(moments),
        cone=total_square / max(moments.norm_second / moments.weight, TINY),
        mean_norm=mean_norm,
        norm_spread=float(np.sqrt(norm_variance) / max(mean_norm, TINY)),
        zero_vectors=moments.zero_count,
        dead_components=int(find_dead_components(moments).sum()),
        duplicate_components=len(find_duplicate_components(moments)),
    )


def find_eigenvalues(matrix: Array) -> Array:
    """Return the eigenvalues (d,) of a symmetric matrix, the largest first. Values within rounding of 0 are 0."""
    values: Array = linalg.eigvalsh(matrix)[::-1]
    floor = max(float(values[0]), 0.0) * len(values) * np.finfo(np.float64).eps
    return np.where(values > floor, values, 0.0)


def list_variances(moments: Moments, *, most: int = CURVE_POINTS) -> tuple[tuple[int, float], ...]:
    """Return the number, from 1, and the share of the variance of at most `most` principal directions, the largest first.

    The numbers are spread evenly on a logarithmic axis. Directions without variance are left out.
    """
    values = find_eigenvalues(moments.covariance)
    shares = values / max(float(values.sum()), TINY)
    count = int((shares > 0).sum())
    if not count:
        return ()
    numbers = np.unique(np.geomspace(1, count, most).round().astype(int))
    return tuple((int(number), float(shares[number - 1])) for number in numbers)


def compute_rankme(eigenvalues: Array) -> float:
    """Return RankMe from the eigenvalues (min(n, d),) of the second moment. It is 1 if all are 0."""
    singular = np.sqrt(eigenvalues)
    if not singular.any():
        return 1.0
    shares = singular / singular.sum() + RANKME_FLOOR
    return float(np.exp(-(shares * np.log(shares)).sum()))


def compute_exponential_entropy(shares: Array) -> float:
    """Return exp(-Σ p ln p) of shares (k,) that sum to 1, where 0 ln 0 is 0. It is 1 if all are 0."""
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum())) if len(positive) else 1.0


def count_components(rates: Array) -> int:
    """Return how many of the coding rates (d,), the largest first, hold 99 % of their sum."""
    if not rates.any():
        return 0
    return int(np.searchsorted(np.cumsum(rates), WHOLE_RATE * rates.sum()) + 1)


def compute_mean_cosine(moments: Moments) -> float:
    """Return the mean cosine of two different vectors; 0 for a single one. Vectors of norm 0 are left out."""
    pairs = moments.unit_weight**2 - moments.unit_weight_second
    if moments.count - moments.zero_count < 2 or pairs <= 0:
        return 0.0
    return float((np.square(moments.unit_total).sum() - moments.unit_weight_second) / pairs)


def find_dead_components(moments: Moments) -> npt.NDArray[np.bool_]:
    """Return, for each component (d,), whether it has one value for all vectors."""
    ranges = moments.highest - moments.lowest
    dead: npt.NDArray[np.bool_] = ranges <= DEAD_RANGE * max(float(ranges.max()), TINY)
    return dead


def find_duplicate_components(moments: Moments) -> list[tuple[int, int]]:
    """Return each component that equals an earlier one but for sign, scale and shift, with the first such one."""
    covariance = moments.covariance
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0))
    alive = ~find_dead_components(moments) & (deviations > 0)
    scale = np.where(alive, deviations, 1.0)
    correlations = np.abs(covariance / np.outer(scale, scale))
    same = (correlations > SAME_CORRELATION) & np.outer(alive, alive)
    return [(number, int(np.argmax(row[:number]))) for number, row in enumerate(same) if row[:number].any()]
