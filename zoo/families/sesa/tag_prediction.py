"""Predict one concept for a text: the most probable one, or the one nearest to the truth in the hierarchy of the concepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.families.sesa.concepts import Concepts
from zoo.label_geometry import LabelMetric, TreeMetric, make_graph_metric, predict_frechet


@dataclass(frozen=True)
class TagPrediction:
    """The concept of one text.

    Attributes:
        label: the id of the concept.
        name: its name; None for a label that only the metric has.
        probability: the probability of the concept; in a tree, of the concept and everything below it.
        expected_squared_distance: by the rule `frechet`, the expected squared distance of the concept to the truth; else None.
    """

    label: str | int
    name: str | None
    probability: float
    expected_squared_distance: float | None = None


def predict_tags(
    probabilities: np.ndarray[Any, Any], concepts: Concepts, *, metric: LabelMetric | None, answers: str
) -> list[TagPrediction]:
    """Predict one concept for each row of `probabilities` (n, C); see `ConceptEncoder.predict_tags`."""
    has_children = {parent for parents in concepts.parents for parent in parents}
    leaves = [row for row in range(len(concepts)) if row not in has_children]
    ids = [concepts.ids[row] for row in leaves]
    shares = probabilities[:, leaves].astype(np.float64)
    shares /= np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    if metric is None:
        return [
            TagPrediction(ids[best], concepts.names[leaves[best]], float(row[best]))
            for best, row in zip(shares.argmax(1), shares, strict=True)
        ]
    name_by_id = dict(zip(concepts.ids, concepts.names, strict=True))
    return [
        TagPrediction(
            answer.label, name_by_id.get(str(answer.label)), answer.probability, answer.expected_squared_distance
        )
        for answer in predict_frechet(shares, ids, metric, answers=answers)
    ]


def make_metric(concepts: Concepts) -> LabelMetric:
    """Make the metric of paths between concepts: a tree, or a graph if a concept has several parents.

    Raises ZooError if no concept has a parent, and for a graph that is not connected.
    """
    if not any(concepts.parents):
        raise ZooError("rule='frechet' needs `metric`, because no concept of this encoder has a parent")
    if all(len(parents) <= 1 for parents in concepts.parents):
        return TreeMetric(
            {
                concept: concepts.ids[parents[0]] if parents else None
                for concept, parents in zip(concepts.ids, concepts.parents, strict=True)
            }
        )
    edges = [
        (concept, concepts.ids[parent])
        for concept, parents in zip(concepts.ids, concepts.parents, strict=True)
        for parent in parents
    ]
    return make_graph_metric(edges)
