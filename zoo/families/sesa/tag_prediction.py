"""Predict one concept for a text: the most probable one, or the one nearest to the truth in the hierarchy of the concepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.core.errors import ZooError
from zoo.families.sesa.concepts import Concepts
from zoo.label_geometry import LabelMetric, predict_frechet
from zoo.label_geometry.rules import check_rule

if TYPE_CHECKING:
    from zoo.families.sesa.concept_encoder import ConceptEncoder


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
    encoder: ConceptEncoder,
    texts: Iterable[str],
    *,
    rule: str,
    metric: LabelMetric | None,
    answers: str,
    prompt_type: str | None,
) -> list[TagPrediction]:
    """Predict one concept for each text; see `ConceptEncoder.predict_tags`."""
    concepts = encoder.require_named_components()
    if rule == "frechet" and metric is None:
        metric = make_metric(concepts)
    check_rule(rule, metric)
    has_children = {parent for parents in concepts.parents for parent in parents}
    leaves = [row for row in range(len(concepts)) if row not in has_children]
    ids = [concepts.ids[row] for row in leaves]
    shares = encoder.probabilities(texts, prompt_type=prompt_type)[:, leaves].astype(np.float64)
    shares /= np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    if metric is None:
        best = shares.argmax(1)
        return [
            TagPrediction(ids[place], concepts.names[leaves[place]], float(row[place]))
            for place, row in zip(best, shares, strict=True)
        ]
    return [
        TagPrediction(
            answer.label,
            concepts.names[concepts.row_by_id[str(answer.label)]] if str(answer.label) in concepts.row_by_id else None,
            answer.probability,
            answer.expected_squared_distance,
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
        return LabelMetric.tree(
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
    return LabelMetric.graph(edges)
