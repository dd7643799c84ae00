"""Predictions of a classifier with class vectors: the class of an input, its cosine and its probability, or no class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from zoo.data import kinds
from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.metrics import classification


@dataclass(frozen=True)
class Prediction:
    """The result of `predict` for one input.

    Attributes:
        label: the class, or None if the score is below the encoder's threshold.
        cosine: cosine of the embedding with the class's vector; for head softmax, the score of the class.
        probability: probability of the class. It is calibrated if training had validation rows.
    """

    label: str | int | None
    cosine: float
    probability: float


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


def predict(encoder: ClassifierEncoder, inputs: Iterable[Any]) -> list[Prediction]:
    """Predict the class of each input; see `Encoder.predict`."""
    scores = encoder.compute_scores(inputs)
    probabilities = classification.compute_softmax(scores, encoder.scale)
    predictions = []
    for number, best in enumerate(scores.argmax(1)):
        score = float(scores[number, best])
        is_known = encoder.threshold is None or scores[number, best] >= encoder.threshold
        label = encoder.classes[int(best)] if is_known else None
        predictions.append(Prediction(label, score, float(probabilities[number, best])))
    return predictions


def calibrate(encoder: ClassifierEncoder, rows: Dataset) -> None:
    """Set the encoder's scale and threshold by validation rows.

    The scale gives the rows' classes the largest likelihood. The threshold lets the share `answer_rate` of the rows have an
    answer. Rows whose label is not a class of the encoder count for the threshold only.
    """
    scores = encoder.compute_scores(rows[encoder.spec.modality])
    positions = {name: position for position, name in enumerate(encoder.classes)}
    class_ids = np.array([positions.get(label, -1) for label in kinds.match_labels(rows["label"], encoder.classes)])
    is_known = class_ids >= 0
    encoder.scale = classification.fit_scale(scores[is_known], class_ids[is_known])
    encoder.threshold = float(np.quantile(scores.max(1), 1 - encoder.spec.answer_rate))
