"""Few-shot classification: a few labelled rows of each class stand for it, and other rows look for the nearest class mean.

Source: Snell et al., "Prototypical Networks for Few-shot Learning", arXiv 1703.05175, section 2, with a frozen encoder. The
episodes depend on the labels and the seed alone, so that two encoders are compared on the same episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import DataError

Ids = npt.NDArray[np.int64]
LARGEST_CLASS = 500
"""From a class with more rows, so many are drawn. More would not change the mean, and cost memory."""
BLOCK = 64
"""Episodes whose vectors are in memory at once."""
NORMAL_QUANTILE = 1.96
WAYS, SHOTS, QUERIES, EPISODES = 5, (1, 5), 15, 600
"""The usual setting: 600 episodes of five classes, with one or five labelled rows and 15 others of each class."""


class Sizes(NamedTuple):
    """The sizes of an episode: classes, labelled rows of each class by setting, and rows of each class to classify."""

    ways: int
    shots: tuple[int, ...]
    queries: int


class Episodes(NamedTuple):
    """Row numbers of e episodes. The classes of an episode are in random order.

    Attributes:
        support: (e, ways, most shots) rows whose labels are known. A setting of s shots takes the first s.
        queries: (e, ways, queries) rows to classify.
    """

    support: Ids
    queries: Ids

    def list_rows(self) -> Ids:
        """Return the numbers (m,) of all rows that occur, in ascending order."""
        return np.unique(np.concatenate([self.support.ravel(), self.queries.ravel()]))


class FewShot(NamedTuple):
    """The result of one number of shots.

    Attributes:
        shots: labelled rows of each class.
        accuracy: the mean over the episodes.
        low, high: bounds of its 95 % interval, by the normal approximation. It is that of other episodes of the same rows.
        accuracies: (e,) the accuracy of each episode.
    """

    shots: int
    accuracy: float
    low: float
    high: float
    accuracies: npt.NDArray[np.float64]


def choose_sizes(labels: Sequence[Any]) -> Sizes:
    """Choose the sizes for labels, from the usual ones down to two rows of two classes.

    At least half of the classes take part. Raises DataError unless two classes have two rows.
    """
    counts = np.sort(np.unique([str(label) for label in labels], return_counts=True)[1])[::-1]
    ways = min(WAYS, int((counts >= 2).sum()))
    if ways < 2:
        raise DataError("few-shot: two classes need at least two labelled rows each; five of each class say something")
    rows = int(min(counts[ways - 1], max(2, np.median(counts[counts >= 2]))))
    shots = tuple(sorted({1, min(SHOTS[-1], rows - 1)}))
    return Sizes(ways, shots, min(QUERIES, rows - shots[-1]))


def draw_episodes(labels: Sequence[Any], sizes: Sizes, *, episodes: int = EPISODES, seed: int = 42) -> Episodes:
    """Draw classes, and rows of each class without repetition, from labels (n,).

    Classes with too few rows take no part. Raises DataError if fewer than `ways` classes are left.
    """
    rng = np.random.default_rng(seed)
    needed = max(sizes.shots) + sizes.queries
    classes, positions = np.unique([str(label) for label in labels], return_inverse=True)
    by_class = np.split(np.argsort(positions, kind="stable"), np.cumsum(np.bincount(positions))[:-1])
    members = [rows for rows in by_class if len(rows) >= needed]
    if len(members) < sizes.ways:
        raise DataError(
            f"few-shot: {len(members)} of {len(classes)} classes have {needed} rows ({max(sizes.shots)} labelled and "
            f"{sizes.queries} others), and an episode takes {sizes.ways} classes: give more rows, or lower ways, shots or queries"
        )
    chosen = rng.random((episodes, len(members))).argsort(axis=1)[:, : sizes.ways]
    drawn = np.empty((episodes, sizes.ways, needed), np.int64)
    for number, rows in enumerate(members):
        if len(rows) > LARGEST_CLASS:
            rows = rng.choice(rows, LARGEST_CLASS, replace=False)
        places = np.nonzero(chosen == number)
        drawn[places] = rows[rng.random((len(places[0]), len(rows))).argsort(axis=1)[:, :needed]]
    return Episodes(drawn[:, :, : max(sizes.shots)], drawn[:, :, max(sizes.shots) :])


def measure_episodes(vectors: Any, episodes: Episodes, shots: int) -> FewShot:
    """Classify the queries of all episodes by the nearest mean of `shots` labelled vectors.

    Args:
        vectors: (n, d) float32 of all rows, or of those that `list_rows` names, with the same numbers.
        episodes: as `draw_episodes` gave them.
        shots: at most as many as the episodes have.
    """
    accuracies = [
        _classify(
            vectors[episodes.support[start : start + BLOCK, :, :shots]],
            vectors[episodes.queries[start : start + BLOCK]],
        )
        for start in range(0, len(episodes.support), BLOCK)
    ]
    values = np.concatenate(accuracies)
    reach = float(NORMAL_QUANTILE * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    mean = float(values.mean())
    return FewShot(shots, mean, mean - reach, mean + reach, values)


def renumber(episodes: Episodes, rows: Ids) -> Episodes:
    """Return the episodes with the places of their rows among the ascending numbers `rows`, in place of the numbers."""
    return Episodes(np.searchsorted(rows, episodes.support), np.searchsorted(rows, episodes.queries))


def _classify(support: npt.NDArray[Any], queries: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the accuracy of each episode, from vectors (b, ways, shots, d) and (b, ways, queries, d)."""
    blocks, ways, count, dim = queries.shape
    means = support.mean(axis=2)
    scores = queries.reshape(blocks, ways * count, dim) @ means.transpose(0, 2, 1)
    scores -= 0.5 * np.square(means).sum(axis=2)[:, None, :]  # the nearest mean by Euclidean distance scores highest
    hits = scores.argmax(axis=2).reshape(blocks, ways, count) == np.arange(ways)[None, :, None]
    accuracies: npt.NDArray[np.float64] = hits.mean(axis=(1, 2))
    return accuracies
