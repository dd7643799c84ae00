"""The map from scores to probabilities, as it is applied and stored. It needs numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.after.relevance.familiarity import Directions, Familiarity
from zoo.after.relevance.gate import Gate, join_features
from zoo.after.relevance.lines import Lines
from zoo.after.relevance.order import round_in_order
from zoo.after.relevance.score_lists import ScoreLists

Floats = npt.NDArray[np.float64]
WHITENED = 64
"""Coordinates of a query that the networks read, at most."""


@dataclass(frozen=True)
class Inputs:
    """Everything that the map reads about queries and their lists.

    Attributes:
        lists: (m, top) complete lists.
        evidence: (m, k) the standardised baseline of all scores.
        whitened: (m, w) whitened queries.
        features: (m, f) standardised features of lists and queries.
        gate: (m, g) features of the gate.
    """

    lists: Floats
    evidence: Floats
    whitened: Floats
    features: Floats
    gate: Floats


@dataclass(frozen=True)
class Scaling:
    """Means and standard deviations of features (f,) and of the evidence (a number)."""

    mean: Floats
    deviation: Floats
    evidence_mean: float = 0.0
    evidence_deviation: float = 1.0


@dataclass(frozen=True)
class RelevanceMap:
    """Probabilities of scores: P(the query belongs to the corpus) × P(the row answers it, if it does).

    The log-odds of the second factor are a line in the evidence, which is one of the free baselines, and its slope is positive.

    Attributes:
        baseline: one of `score_lists.BASELINES`.
        calibration: slope > 0 and offset from log-odds of the second factor to calibrated ones.
    """

    shape: ScoreLists
    familiarity: Familiarity
    baseline: str
    scaling: Scaling
    lines: Lines
    gate: Gate
    calibration: tuple[float, float]

    def apply(self, queries: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities (m, k) float32 of descending scores (m, k). A score that is not finite gets 0."""
        if not scores.size:
            return np.zeros(scores.shape, np.float32)
        is_present = np.isfinite(scores)
        given = np.where(is_present, scores, 0.0).astype(np.float64)
        lists = self.shape.complete(np.where(is_present, scores, -np.inf).astype(np.float64))
        measured = self.familiarity.measure(queries)
        inputs = read_inputs(self, queries, given, lists, measured)
        slope, offset = (values.mean(0)[:, None] for values in self.lines.apply(inputs.whitened, inputs.features))
        log_odds = calibrate(slope * inputs.evidence + offset, self.calibration)
        probabilities = compute_sigmoid(join(log_odds, self.gate.apply(inputs.gate)))
        ordered = round_in_order(probabilities, np.where(is_present, scores, -np.inf))
        return np.where(is_present, ordered, np.float32(0))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        arrays = {
            "drops": self.shape.drops,
            "features.mean": self.scaling.mean,
            "features.deviation": self.scaling.deviation,
        }
        parts = [self.familiarity.queries.tensors("queries"), self.familiarity.documents.tensors("documents")]
        parts += [self.lines.tensors(), self.gate.tensors()]
        return {name: np.ascontiguousarray(array) for part in (arrays, *parts) for name, array in part.items()}

    def state(self) -> dict[str, Any]:
        """Return the JSON-able rest."""
        return {
            "baseline": self.baseline,
            "spread": self.shape.spread,
            "rest": [self.familiarity.queries.rest, self.familiarity.documents.rest],
            "evidence": [self.scaling.evidence_mean, self.scaling.evidence_deviation],
            "calibration": list(self.calibration),
        }

    @classmethod
    def read(cls, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> RelevanceMap:
        """Return what `tensors` and `state` gave. Raise KeyError, TypeError or ValueError for anything else."""
        rest = [float(value) for value in state["rest"]]
        directions = [
            Directions.read(name, tensors, value) for name, value in zip(("queries", "documents"), rest, strict=True)
        ]
        evidence_mean, evidence_deviation = map(float, state["evidence"])
        slope, offset = map(float, state["calibration"])
        scaling = Scaling(tensors["features.mean"], tensors["features.deviation"], evidence_mean, evidence_deviation)
        return cls(
            ScoreLists(tensors["drops"], float(state["spread"])),
            Familiarity(*directions),
            str(state["baseline"]),
            scaling,
            Lines.read(tensors),
            Gate.read(tensors),
            (slope, offset),
        )


def read_inputs(
    parts: Any, queries: npt.NDArray[np.float32], scores: Floats, lists: Floats, measured: Floats
) -> Inputs:
    """Return the inputs of queries (m, d) with scores (m, k), complete lists (m, top) and features of familiarity (m, 4).

    `parts` has `shape`, `familiarity`, `baseline` and `scaling`, as a RelevanceMap does.
    """
    origin, unit = parts.shape.anchor(parts.baseline, lists, measured[:, 2], measured[:, 3])
    scaling = parts.scaling
    evidence = ((scores - origin[:, None]) / unit[:, None] - scaling.evidence_mean) / scaling.evidence_deviation
    features = (join_list_features(parts.shape, lists, measured) - scaling.mean) / scaling.deviation
    whitened = parts.familiarity.whiten(queries, WHITENED)
    return Inputs(lists, evidence, whitened, features, join_features(lists, measured))


def join_list_features(shape: ScoreLists, lists: Floats, measured: Floats) -> Floats:
    """Return the features (m, f) of complete lists and of familiarity, not yet standardised."""
    return np.concatenate([shape.measure(lists), measured], axis=1)


def join(log_odds: Floats, gate: Floats) -> Floats:
    """Return the log-odds (m, k) of the product of two probabilities, of rows (m, k) and of queries (m,), from their log-odds."""
    # p = 1 / ((1 + e^-a) (1 + e^-b)), so (1 - p) / p = e^-a + e^-b + e^-(a + b).
    first, second = -log_odds, -gate[:, None]
    return -np.logaddexp(np.logaddexp(first, second), first + second)


def calibrate(log_odds: Floats, calibration: tuple[float, float]) -> Floats:
    """Return slope × log-odds + offset."""
    return calibration[0] * log_odds + calibration[1]


def compute_sigmoid(log_odds: Floats) -> Floats:
    """Return the probabilities of log-odds."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))
