"""How steeply labels change in a space, and the pairs of rows whose labels are probably wrong.

Source: Konz and Mazurowski, "The Effect of Intrinsic Dataset Properties on Generalization", arXiv 2401.08865. Their
released code counts pairs of equal label; here the labels of a pair differ, as the paper says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.metrics.neighbours import DRAWN, SAME, draw_rows
from zoo.ops import exact_search

PAIR_ROWS = 1000
"""Rows whose pairs are compared, as in the paper."""
QUANTILE = 0.999
NEIGHBOURS = 10
LISTED = 20


class Suspect(NamedTuple):
    """Two near rows with different labels. One of the labels may be wrong.

    Attributes:
        row, other: row numbers. `row` is the one with fewer neighbours of its own label.
        distance: Euclidean distance of the unit vectors.
        agreement, other_agreement: share of the ten nearest rows that have the label of the row itself.
    """

    row: int
    other: int
    distance: float
    agreement: float
    other_agreement: float


class Sharpness(NamedTuple):
    """Label sharpness of unit vectors.

    Attributes:
        label_sharpness: the largest ratio of the median distance to the distance of two rows with different labels. A single
            row with a wrong label decides it.
        label_sharpness_999: the 99.9 % quantile of that ratio.
        contradictions: drawn pairs with equal vectors and different labels. They are left out of both figures.
        suspects: the steepest pairs, the nearest first.
    """

    label_sharpness: float
    label_sharpness_999: float
    contradictions: int
    suspects: tuple[Suspect, ...]


def measure_sharpness(vectors: Any, labels: Sequence[Any], *, seed: int = 42) -> Sharpness:
    """Measure vectors (n, d) with labels (n,): pairs of 1,000 drawn rows, and neighbours of 10,000 for the suspects."""
    rows = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    ids = np.unique([str(label) for label in labels], return_inverse=True)[1]
    drawn = draw_rows(len(unit), PAIR_ROWS, seed)
    ratios, contradictions = _compute_ratios(unit[drawn], ids[drawn])
    largest, quantile = (float(ratios.max()), float(np.quantile(ratios, QUANTILE))) if len(ratios) else (0.0, 0.0)
    return Sharpness(largest, quantile, contradictions, find_suspects(unit, ids, seed=seed))


def _compute_ratios(unit: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], int]:
    """Return the median distance by the distance of each pair with different labels, and the number of equal vectors."""
    from scipy.spatial.distance import pdist

    distances = pdist(unit.astype(np.float64))
    first, second = np.triu_indices(len(unit), 1)
    differs = ids[first] != ids[second]
    apart = distances > SAME
    median = float(np.median(distances[apart])) if apart.any() else 0.0
    return median / distances[differs & apart], int((differs & ~apart).sum())


def find_suspects(
    unit: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], *, most: int = LISTED, seed: int = 42
) -> tuple[Suspect, ...]:
    """Return the nearest pairs of unit vectors (n, d) with different labels (n,), at most one for each row."""
    rows = draw_rows(len(unit), DRAWN, seed)
    own = np.arange(len(rows))
    if len(rows) < 2:
        return ()
    cosines, found = exact_search.search(unit[rows], unit[rows], NEIGHBOURS, excluded=(own, own))
    is_real = found != exact_search.NOTHING
    same = (ids[rows][found] == ids[rows][:, None]) & is_real
    agreement = same.sum(axis=1) / np.maximum(is_real.sum(axis=1), 1)
    others = np.where(is_real & ~same, cosines, -np.inf)
    nearest = others.argmax(axis=1)
    best = others[own, nearest]
    pairs: list[Suspect] = []
    used: set[int] = set()
    for place in np.argsort(-best, kind="stable"):
        if np.isneginf(best[place]) or len(pairs) == most:
            break
        pair = (int(place), int(found[place, nearest[place]]))
        if used & set(pair):
            continue
        used |= set(pair)
        row, other = sorted(pair, key=lambda number: (agreement[number], number))
        distance = float(np.sqrt(max(0.0, 2 - 2 * float(best[place]))))
        pairs.append(
            Suspect(int(rows[row]), int(rows[other]), distance, float(agreement[row]), float(agreement[other]))
        )
    return tuple(pairs)
