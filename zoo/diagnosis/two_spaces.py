"""How two spaces are alike: figures of the vectors of the same inputs by two encoders, or by two views of one.

Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", arXiv 1905.00414 (linear CKA); Song et al.,
"Feature Selection via Dependence Maximization", JMLR 2012 (the unbiased estimate of HSIC); Huh et al., "The Platonic
Representation Hypothesis", arXiv 2405.07987 (mutual neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.bridge.maps import fit_ridge
from zoo.bridge.recall import count_common, normalise, search
from zoo.core.errors import ZooError
from zoo.metrics.neighbours import draw_rows

Array = npt.NDArray[np.float64]
LEAST_ROWS = 20
NEIGHBOURS = 10
COSINE_ROWS = 1000
"""Rows whose pairs are compared."""
TINY = 1e-300


class TwoSpaces(NamedTuple):
    """Figures of two spaces. Rotation and scale of either space change none but the two of translation, and those hardly.

    Attributes:
        rows: inputs that both encoders read.
        cka: linear CKA without bias: 1 for a rotated copy, 0 on average for unrelated spaces, also with few rows.
        mutual_neighbours: share of the ten nearest inputs that both spaces have in common.
        procrustes_residual: share of the variance that no rotation, scale and shift brings into agreement; 0 for a rotated copy.
        translates_forward, translates_backward: R² of a linear map of the first space to the second, and back, on rows that the
            map was not fitted on.
        cosine_agreement: rank correlation of the cosines of pairs.
    """

    rows: int
    cka: float
    mutual_neighbours: float
    procrustes_residual: float
    translates_forward: float
    translates_backward: float
    cosine_agreement: float


def compare_spaces(first: Any, second: Any, *, seed: int = 42) -> TwoSpaces:
    """Compare vectors (n, d) and (n, e) of the same n inputs. Raises ZooError for other shapes, and for fewer than 20 rows."""
    if len(first) != len(second):
        raise ZooError(
            f"{len(first):,} and {len(second):,} vectors are not of the same inputs: encode the same ones, in order"
        )
    if len(first) < LEAST_ROWS:
        raise ZooError(f"{len(first)} inputs say nothing about two spaces: give {LEAST_ROWS} or more")
    unit = normalise(first), normalise(second)
    return TwoSpaces(
        len(first),
        compute_cka(*unit),
        measure_mutual_neighbours(*unit),
        compute_procrustes_residual(*unit),
        *measure_translation(*unit, seed=seed),
        measure_cosine_agreement(*unit, seed=seed),
    )


def compute_cka(first: Any, second: Any) -> float:
    """Return linear CKA of vectors (n, d) and (n, e), from unbiased estimates of HSIC, in O(n d e). 0 for constant vectors."""
    return float(map_cka([first], [second])[0, 0])


def map_cka(first: Sequence[Any], second: Sequence[Any]) -> Array:
    """Return linear CKA (k, m) of each of k sets of vectors with each of m sets, all of the same n inputs."""
    sides = [[_centre(vectors) for vectors in sets] for sets in (first, second)]
    own = [[_compute_hsic(vectors, vectors) for vectors in side] for side in sides]
    table = np.zeros((len(sides[0]), len(sides[1])))
    for row, left in enumerate(sides[0]):
        for column, right in enumerate(sides[1]):
            scale = own[0][row] * own[1][column]
            if min(own[0][row], own[1][column]) > 0:
                table[row, column] = _compute_hsic(left, right) / np.sqrt(scale)
    return table


def measure_mutual_neighbours(first: Any, second: Any, *, count: int = NEIGHBOURS) -> float:
    """Return the share of the `count` nearest rows that two sets of unit vectors have in common: count / n by chance."""
    rows = np.arange(len(first))
    count = min(count, len(first) - 1)
    found = [search(vectors, vectors, count, rows) for vectors in (first, second)]
    return float(count_common(*found).mean())


def compute_procrustes_residual(first: Any, second: Any) -> float:
    """Return 1 - (sum of the singular values of AᵀB)², of centred vectors at Frobenius norm 1. It lies between 0 and 1."""
    from scipy.linalg import svdvals

    left, right = (_centre(vectors) for vectors in (first, second))
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return max(0.0, 1.0 - (float(svdvals(left.T @ right).sum()) / max(norms, TINY)) ** 2)


def measure_translation(first: Any, second: Any, *, seed: int = 42) -> tuple[float, float]:
    """Return R² of ridge maps there and back. They are fitted on half of the rows, and tried on the others."""
    order = np.random.default_rng(seed).permutation(len(first))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    values = []
    for source, target in ((first, second), (second, first)):
        mapped = fit_ridge(source[train], target[train]).apply(source[test])
        left = float(np.square(target[test] - mapped).sum())
        total = float(np.square(target[test] - target[train].mean(axis=0)).sum())
        values.append(1.0 - left / max(total, TINY))
    return values[0], values[1]


def measure_cosine_agreement(first: Any, second: Any, *, seed: int = 42) -> float:
    """Return the rank correlation of the cosines of all pairs of 1,000 drawn rows; 0 if all are equal."""
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    rows = draw_rows(len(first), COSINE_ROWS, seed)
    distances = [pdist(np.asarray(vectors[rows], np.float64), "sqeuclidean") for vectors in (first, second)]
    if any(float(np.ptp(values)) == 0 for values in distances):
        return 0.0
    return float(spearmanr(*distances).statistic)


def measure_direct_cosine(first: Any, second: Any) -> float:
    """Return the mean cosine of row i with row i, of relative vectors (n, m) by the same anchors.

    Without centring it is high for any two encoders, so it is a measure only of centred ones.
    """
    left, right = (normalise(np.asarray(vectors)) for vectors in (first, second))
    return float(np.einsum("nd,nd->n", left, right).mean())


def _centre(vectors: Any) -> Array:
    rows = np.asarray(vectors, np.float64)
    centred: Array = rows - rows.mean(axis=0)
    return centred


def _compute_hsic(left: Array, right: Array) -> float:
    """Return the unbiased HSIC of the inner products of centred vectors (Song et al.).

    With centred vectors, the sum of a row of the matrix K without its diagonal is minus the squared norm of that vector. So no
    matrix (n, n) is needed.
    """
    count = len(left)
    a, b = (np.square(rows).sum(axis=1) for rows in (left, right))
    trace = float(np.square(left.T @ right).sum() - a @ b)
    product = float(a.sum() * b.sum()) / ((count - 1) * (count - 2))
    return (trace + product - 2 * float(a @ b) / (count - 2)) / (count * (count - 3))
