"""The probability that a row answers a query, from the scores of the encoder and of BM25 together.

Each score becomes a probability of its own by a map as that of the step `relevance`: monotone for each query, and aware of the
list around the score. A logistic regression joins the two log-odds and those of a noisy-or of both. The noisy-or is high if
either side is sure, and the other two add up evidence; the weights say which of it a corpus needs. No weight is negative, so
that a better score never lowers the probability.

Source of the noisy-or: Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.after.relevance import order
from zoo.after.relevance.mapping import RelevanceMap, compute_sigmoid
from zoo.core.errors import ArtefactError
from zoo.index.arrays import Vectors

if TYPE_CHECKING:
    from zoo.after.step import ScoreStep

Floats = npt.NDArray[np.float64]
MapScores = Callable[[Vectors, Vectors], Vectors]
METADATA = "zoo"


@dataclass(frozen=True)
class HybridMap:
    """A fitted map.

    Attributes:
        words: maps the scores of BM25.
        products: maps inner products; None if the model's step `relevance` does.
        step: the hash of that step, or None.
        weights: (4,) of the log-odds of the encoder, of BM25 and of their noisy-or, and the offset.
        threshold: the cut-off. A row is relevant if its probability is at least this.
        facts: figures on queries that each part was fitted without.
    """

    words: RelevanceMap
    products: RelevanceMap | None
    step: str | None
    weights: Floats
    threshold: float
    facts: Mapping[str, Any]

    def apply(
        self, queries: Vectors, asked: Vectors, products: Vectors, words: Vectors, step: ScoreStep | None
    ) -> Vectors:
        """Return the probabilities (m, c) float32 of the candidates of queries.

        Args:
            queries: (m, d) float32 vectors.
            asked: the same as the model's step `relevance` takes them, see `zoo.index.answers.transform_queries`.
            products, words: (m, c) scores of the candidates in any order; minus infinity for nothing.
            step: that step, if the map has no `products` of its own.
        """
        map_products = (
            self.products.apply if self.products is not None else step.map_scores if step is not None else None
        )
        assert map_products is not None  # `open_map` compares the step
        features = join_features(
            compute_log_odds(map_products, asked, products), compute_log_odds(self.words.apply, queries, words)
        )
        return compute_sigmoid(features @ self.weights).astype(np.float32)

    def write(self, path: Path) -> None:
        """Write the map as one file of safetensors, whose metadata hold the numbers."""
        from safetensors.numpy import save_file

        maps = {"words": self.words} | ({} if self.products is None else {"products": self.products})
        tensors = {f"{side}.{name}": array for side, own in maps.items() for name, array in own.tensors().items()}
        content = {
            "maps": {side: own.state() for side, own in maps.items()},
            "step": self.step,
            "weights": self.weights.tolist(),
            "threshold": self.threshold,
            "facts": dict(self.facts),
        }
        save_file(tensors, path, {METADATA: json.dumps(content)})


def open_map(path: Path) -> HybridMap:
    """Open a map. Raise ArtefactError for anything else than `write` gave."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            content = json.loads(file.metadata()[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping
        maps = {side: RelevanceMap.read(_cut(tensors, side), state) for side, state in content["maps"].items()}
        weights = np.array(content["weights"], np.float64)
        if weights.shape != (4,) or (weights[:3] < 0).any() or not np.isfinite(weights).all():
            raise ValueError("the weights are wrong")
        step = None if content["step"] is None else str(content["step"])
        return HybridMap(
            maps["words"], maps.get("products"), step, weights, float(content["threshold"]), content["facts"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, SafetensorError) as error:
        raise ArtefactError(f"{path}: cannot be read ({str(error)[:80]}); run --fit-hybrid again") from None


def _cut(tensors: Mapping[str, Any], side: str) -> dict[str, Any]:
    return {name.removeprefix(f"{side}."): array for name, array in tensors.items() if name.startswith(f"{side}.")}


def compute_log_odds(map_scores: MapScores, queries: Vectors, scores: Vectors) -> Floats:
    """Return the log-odds (m, c) of scores (m, c) in any order, by a map that takes descending ones."""
    places = np.argsort(-scores, axis=1, kind="stable")
    mapped = map_scores(queries, np.take_along_axis(scores, places, 1)).astype(np.float64)
    probabilities = np.empty(scores.shape)
    np.put_along_axis(probabilities, places, mapped.clip(order.LEAST, order.MOST), 1)
    result: Floats = np.log(probabilities) - np.log1p(-probabilities)
    return result


def join_features(products: Floats, words: Floats) -> Floats:
    """Return what the regression reads (m, c, 4), from the log-odds (m, c) of both sides."""
    neither = np.logaddexp(0, products) + np.logaddexp(0, words)  # minus the logarithm of (1 - p) (1 - q)
    either = neither + np.log(-np.expm1(-neither))
    return np.stack([products, words, either, np.ones(products.shape)], axis=-1)
