"""Predictions of a classifier with class vectors: the class of an input, its cosine and its probability, or no class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.data import kinds
from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.label_geometry import LabelMetric, predict_frechet
from zoo.label_geometry.rules import check_rule
from zoo.metrics import classification

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Prediction:
    """The result of `predict` for one input.

    Attributes:
        label: the class, or None if the score is below the encoder's threshold. By the rule `frechet` it may be another label
            of the metric.
        cosine: cosine of the embedding with the vector of the most probable class; for head softmax, the score of that class.
        probability: probability of the label. It is calibrated if training had validation rows. In a tree it counts all
            classes below the label.
        expected_squared_distance: by the rule `frechet`, the expected squared distance of the label to the truth; else None.
    """

    label: str | int | None
    cosine: float
    probability: float
    expected_squared_distance: float | None = None


@dataclass(frozen=True)
class ClassScore:
    """A class as a candidate for one input. The attributes are those of `Prediction`."""

    label: str | int
    cosine: float
    probability: float


def rank_classes(encoder: ClassifierEncoder, inputs: Iterable[Any], top: int) -> list[list[ClassScore]]:
    """Return the `top` classes of each input, the best first; see `Encoder.rank_classes`."""
    scores = encoder.compute_scores(inputs)
    probabilities = classification.compute_softmax(scores, encoder.scale)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [ClassScore(encoder.classes[i], float(scores[row, i]), float(probabilities[row, i])) for i in classes.tolist()]
        for row, classes in enumerate(order)
    ]


def predict(
    encoder: ClassifierEncoder,
    inputs: Iterable[Any],
    *,
    rule: str = "argmax",
    metric: LabelMetric | None = None,
    answers: str = "classes",
) -> list[Prediction]:
    """Predict the class of each input; see `Encoder.predict`."""
    check_rule(rule, metric)
    if metric is not None and not encoder.is_calibrated:
        raise ZooError(
            "rule='frechet' needs calibrated probabilities, and this encoder was trained without validation rows: "
            "train it with `validation`, or call `encoder.calibrate(inputs, labels)`"
        )
    scores = encoder.compute_scores(inputs)
    probabilities = classification.compute_softmax(scores, encoder.scale)
    if metric is not None:
        found = predict_frechet(probabilities, encoder.classes, metric, answers=answers)
        is_known = scores.max(1) >= (-np.inf if encoder.threshold is None else encoder.threshold)
        return [
            Prediction(
                answer.label if known else None, float(best), answer.probability, answer.expected_squared_distance
            )
            for answer, best, known in zip(found, scores.max(1), is_known, strict=True)
        ]
    predictions = []
    for number, best in enumerate(scores.argmax(1)):
        score = float(scores[number, best])
        is_known = encoder.threshold is None or scores[number, best] >= encoder.threshold
        label = encoder.classes[int(best)] if is_known else None
        predictions.append(Prediction(label, score, float(probabilities[number, best])))
    return predictions


def calibrate(encoder: ClassifierEncoder, rows: Dataset) -> None:
    """Set the encoder's scale and threshold by validation rows; see `calibrate_by_inputs`."""
    calibrate_by_inputs(encoder, rows[encoder.spec.modality], rows["label"])


def calibrate_by_inputs(encoder: ClassifierEncoder, inputs: Iterable[Any], labels: Sequence[str | int]) -> None:
    """Set the encoder's scale and threshold by inputs and their labels.

    The scale gives the inputs' classes the largest likelihood. The threshold lets the share `answer_rate` of the inputs have an
    answer. Inputs whose label is not a class of the encoder count for the threshold only. Raises ZooError if none is a class.
    """
    scores = encoder.compute_scores(inputs)
    positions = {name: position for position, name in enumerate(encoder.classes)}
    class_ids = np.array([positions.get(label, -1) for label in kinds.match_labels(labels, encoder.classes)])
    if len(class_ids) != len(scores):
        raise ZooError(f"{len(scores)} inputs have {len(class_ids)} labels: give one label for each input")
    is_known = class_ids >= 0
    if not is_known.any():
        raise ZooError(
            "every label is unknown to the encoder, so nothing can be calibrated: give labels of its classes"
        )
    encoder.scale = classification.fit_scale(scores[is_known], class_ids[is_known])
    encoder.threshold = float(np.quantile(scores.max(1), 1 - encoder.spec.answer_rate))
