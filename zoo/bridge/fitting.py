"""Fits maps of several kinds, chooses one on texts that it was not fitted to, and measures it on further texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoo.bridge.maps import FITS, SpaceMap
from zoo.bridge.recall import Kept, count_common, estimate, normalise, search
from zoo.core.errors import ZooError

Vectors = npt.NDArray[np.float32]
Kind = Literal["auto", "orthogonal", "ridge", "mlp", "relative"]
KINDS: tuple[Kind, ...] = ("auto", "orthogonal", "ridge", "mlp", "relative")

MIN_TEXTS = 100
HELD_OUT = 0.2
"""Share of the texts that no map is fitted to. The kind is chosen on one half of them, and measured on the other."""
MAX_HELD_OUT = 2000
MARGIN = 0.002
"""Recall by which a kind must be better than one before it."""


@dataclass(frozen=True)
class FittedMap:
    """A map from one space to another.

    Attributes:
        kind: the kind that was chosen or asked for.
        neighbours: share of the ten rows that a search with the true vector finds, which one with the mapped vector finds.
        itself: share of the mapped vectors that find the row of their own text among the first ten.
        recalls: `neighbours` of every kind that was tried, on the texts by which the kind was chosen.
    """

    map: SpaceMap
    kind: str
    neighbours: Kept
    itself: Kept
    recalls: dict[str, float]


@dataclass(frozen=True)
class Split:
    """Numbers of the texts to fit, to choose and to measure."""

    fitted: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    measured: npt.NDArray[np.int64]


def split_texts(count: int, seed: int) -> Split:
    """Split texts at random. Raise ZooError if there are fewer than MIN_TEXTS."""
    if count < MIN_TEXTS:
        raise ZooError(f"a bridge needs at least {MIN_TEXTS} different texts, and there are {count}; give more")
    order = np.random.default_rng(seed).permutation(count)
    half = min(int(HELD_OUT * count), MAX_HELD_OUT) // 2
    return Split(order[2 * half :], order[:half], order[half : 2 * half])


def fit_map(
    source: Vectors, target: Vectors, split: Split, kind: Kind, seed: int, say: Callable[[str], Any]
) -> FittedMap:
    """Fit a map from the vectors (n, s) of texts in one space to those (n, t) of the same texts in another.

    With `auto` the kind that keeps most neighbours is taken; a simpler kind is preferred if it keeps nearly as much.
    """
    documents = normalise(target)
    names = list(FITS) if kind == "auto" else [kind]
    best, maps, recalls = names[0], {}, {}
    for name in names:
        maps[name] = FITS[name](source[split.fitted], target[split.fitted], seed)
        recalls[name] = float(compare(maps[name], source, documents, split.chosen)[0].mean())
        say(f"{name}: keeps {recalls[name]:.3f} of the first ten rows")
        if recalls[name] > recalls[best] + MARGIN:
            best = name
    neighbours, itself = compare(maps[best], source, documents, split.measured)
    return FittedMap(maps[best], best, estimate(neighbours, seed), estimate(itself, seed), recalls)


def compare(
    mapping: SpaceMap, source: Vectors, documents: Vectors, numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compare searches by mapped vectors with those by true ones, for the texts `numbers` (m,).

    Args:
        documents: (n, t) unit vectors of all texts in the target.

    Returns two arrays (m,): the share of the true neighbours that were found, and whether the text itself was. A text is not
    among its own neighbours.
    """
    mapped = normalise(mapping.apply(source[numbers]))
    true = search(documents[numbers], documents, own=numbers)
    shares = count_common(search(mapped, documents, own=numbers), true)
    return shares, (search(mapped, documents) == numbers[:, None]).any(1).astype(np.float64)
