"""Predictions of Lbl2Vec: the label of a document, by the most probable one or by distances between labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.families.lbl2vec import topics
from zoo.label_geometry import LabelMetric, predict_frechet
from zoo.label_geometry.rules import check_rule
from zoo.metrics import classification

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prediction:
    """The topic of one document.

    Attributes:
        label: the most probable label; None if its confidence is below `reject_below`. By the rule `frechet` it may be another
            label of the metric.
        confidence: confidence of every label; the values sum to 1.
        expected_squared_distance: by the rule `frechet`, the expected squared distance of the label to the truth; else None.
    """

    label: str | int | None
    confidence: dict[str, float]
    expected_squared_distance: float | None = None


def check_options(rule: str, metric: LabelMetric | None, scale: float | None) -> None:
    """Raise ZooError for options of `predict` that do not fit together, before a text is encoded."""
    check_rule(rule, metric)
    if metric is not None and scale is None:
        raise ZooError(
            "rule='frechet' needs calibrated confidences: give scale=encoder.fit_scale(texts, labels), "
            "from a few dozen labelled texts"
        )


def predict(
    cosines: Array,
    names: Sequence[str],
    *,
    reject_below: float,
    metric: LabelMetric | None,
    answers: str,
    scale: float | None,
) -> list[Prediction]:
    """Predict the label of each text from its cosines (n, labels); see `Encoder.predict`."""
    confidences = (
        topics.compute_confidences(cosines) if scale is None else classification.compute_softmax(cosines, scale)
    )
    labels: Sequence[str | int] = [names[best] for best in confidences.argmax(1)]
    distances: Sequence[float | None] = [None] * len(labels)
    if metric is not None:
        found = predict_frechet(confidences, names, metric, answers=answers)
        labels, distances = [one.label for one in found], [one.expected_squared_distance for one in found]
    return [
        Prediction(
            label if values.max() >= reject_below else None,
            dict(zip(names, map(float, values), strict=True)),
            distance,
        )
        for label, values, distance in zip(labels, confidences, distances, strict=True)
    ]


def fit_scale(cosines: Array, labels: Sequence[str], names: Sequence[str]) -> float:
    """Return the factor of the cosines (n, labels) that gives the texts' labels the largest likelihood.

    Raises ZooError for a label that is not among `names`, and for more or fewer labels than texts.
    """
    place = {name: position for position, name in enumerate(names)}
    unknown = next((label for label in labels if label not in place), None)
    if unknown is not None:
        raise ZooError(f"there is no label {unknown!r}{suggest(str(unknown), place)}")
    if len(cosines) != len(labels) or not labels:
        raise ZooError(f"{len(cosines)} texts have {len(labels)} labels: give one label for each text")
    return classification.fit_scale(cosines, np.array([place[label] for label in labels]))
