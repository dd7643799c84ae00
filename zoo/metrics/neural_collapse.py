"""Neural collapse: how far the vectors of a class have become one point, and how regularly the points lie.

Sources: Papyan, Han and Donoho, arXiv 2008.08186 (NC1 to NC4); Galanti et al., arXiv 2112.15121 (the variance of two classes by
their distance); Dang et al., arXiv 2301.00437 (orthogonal means of unequal lengths, if classes are not balanced). All classes
weigh the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError

Array = npt.NDArray[np.float64]
LARGEST = 1e6
"""The largest variance by distance of a pair of classes. Classes with the same mean have this value."""
SAME = 1e-12
"""Squared distances below this share of the mean squared norm are 0."""


class Classes(NamedTuple):
    """Statistics of k classes with two rows or more.

    Attributes:
        names: the labels as text, sorted.
        counts: (k,) rows of each class.
        means: (k, d) the mean vector of each class.
        variances: (k,) the mean squared distance of the rows of a class from their mean.
        left_out: classes of a single row, which have no variance.
    """

    names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    means: Array
    variances: Array
    left_out: int


class Collapse(NamedTuple):
    """Figures of collapse. Each is 0 for classes that are points at the corners of a regular simplex.

    Attributes:
        cdnv: the mean over pairs of classes of (variance + variance) / (2 · squared distance of the means). It does not depend
            on the numbers of classes and components, as a ratio with a pseudo-inverse does.
        variance_ratio: variance inside the classes by the variance of their means.
        simplex: distance of the normalised Gram matrix of the centred means from that of a simplex.
        simplex_norms: spread of the lengths of the centred means, relative to their mean.
        simplex_angles: mean distance of their cosines from -1 / (k - 1).
        orthogonality: mean size of the cosine of two means that are not centred; 0 if means are orthogonal.
        length_by_size: rank correlation of the length of a mean with the rows of its class; 0 if all classes have equally many.
    """

    cdnv: float
    variance_ratio: float
    simplex: float
    simplex_norms: float
    simplex_angles: float
    orthogonality: float
    length_by_size: float


def collect_classes(vectors: Any, labels: Sequence[Any]) -> Classes:
    """Return the statistics of vectors (n, d) with labels (n,).

    Raises ZooError unless two classes have two rows or more.
    """
    names, positions, counts = np.unique([str(label) for label in labels], return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= 2)
    if len(kept) < 2:
        raise ZooError(
            f"{len(kept)} of {len(names)} classes have two rows or more: give more rows of at least two classes"
        )
    rows = np.asarray(vectors, np.float64)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, positions, rows)
    means = sums / counts[:, None]
    squares = np.square(rows - means[positions]).sum(axis=1)
    variances = np.bincount(positions, weights=squares, minlength=len(names)) / counts
    left_out = len(names) - len(kept)
    return Classes(tuple(map(str, names[kept])), counts[kept], means[kept], variances[kept], left_out)


def measure_collapse(classes: Classes) -> Collapse:
    """Compute the figures of classes. They do not change if all vectors are rotated or scaled."""
    from scipy.stats import spearmanr

    means, count = classes.means, len(classes.counts)
    centred = means - means.mean(axis=0)
    between = float(np.square(centred).sum(axis=1).mean())
    lengths, raw_lengths = (np.linalg.norm(rows, axis=1) for rows in (centred, means))
    others = ~np.eye(count, dtype=bool)
    cosines, raw_cosines = (_compute_cosines(rows)[others] for rows in (centred, means))
    varies = len(set(classes.counts.tolist())) > 1 and float(np.ptp(raw_lengths)) > 0
    return Collapse(
        cdnv=_compute_cdnv(classes),
        variance_ratio=min(LARGEST, float(classes.variances.mean()) / max(between, 1e-300)) if between else LARGEST,
        simplex=measure_distance_to_simplex(centred @ centred.T),
        simplex_norms=float(lengths.std() / max(float(lengths.mean()), 1e-300)),
        simplex_angles=float(np.abs(cosines + 1 / (count - 1)).mean()),
        orthogonality=float(np.abs(raw_cosines).mean()),
        length_by_size=float(spearmanr(raw_lengths, classes.counts).statistic) if varies else 0.0,
    )


def measure_distance_to_simplex(products: Array) -> float:
    """Return the distance of a matrix (k, k) from that of a simplex, both at Frobenius norm 1 (Papyan et al., NC2 and NC3)."""
    count = len(products)
    simplex = (np.eye(count) - 1 / count) / np.sqrt(count - 1)
    return float(np.linalg.norm(products / max(float(np.linalg.norm(products)), 1e-300) - simplex))


def measure_head_alignment(classes: Classes, head: Array) -> float:
    """Return how far class vectors (k, d), in the order of the classes, are from pointing where the means do (NC3)."""
    return measure_distance_to_simplex(np.asarray(head, np.float64) @ (classes.means - classes.means.mean(axis=0)).T)


def find_nearest_means(vectors: Any, classes: Classes) -> npt.NDArray[np.int64]:
    """Return the position (n,) of the class whose mean is nearest to each vector (n, d), by Euclidean distance."""
    scores = np.asarray(vectors, np.float64) @ classes.means.T - 0.5 * np.square(classes.means).sum(axis=1)
    nearest: npt.NDArray[np.int64] = scores.argmax(axis=1)
    return nearest


def _compute_cdnv(classes: Classes) -> float:
    squares = np.square(classes.means).sum(axis=1)
    distances = squares[:, None] + squares - 2 * classes.means @ classes.means.T
    pairs = np.triu_indices(len(squares), 1)
    apart = distances[pairs] > SAME * float(squares.mean())
    sums = (classes.variances[:, None] + classes.variances)[pairs]
    values = np.full(len(sums), LARGEST)
    values[apart] = np.minimum(LARGEST, sums[apart] / (2 * distances[pairs][apart]))
    return float(values.mean())


def _compute_cosines(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1)
    unit = rows / np.where(norms > 0, norms, 1.0)[:, None]
    cosines: Array = unit @ unit.T
    return cosines
