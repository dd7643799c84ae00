"""What a classifier with class vectors answers: the class, how near it is, how probable, or none of these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from zoo.families.equiangular.classifier import ClassifierEncoder
    from zoo.metrics import classification
else:
    np, classification = lazy("numpy"), lazy("zoo.metrics.classification")


@dataclass(frozen=True)
class Prediction:
    """What `predict` says of one input.

    Attributes:
        label: the class, or None for none of these.
        cosine: of the embedding and the class's vector; with head softmax the score of the class.
        probability: calibrated on validation rows, where training had some.
    """

    label: str | int | None
    cosine: float
    probability: float


def given(encoder: ClassifierEncoder, inputs: Iterable[Any]) -> list[Prediction]:
    """See `predict` of the family."""
    held = encoder.scored(inputs)
    sure = classification.compute_softmax(held, encoder.scale)
    out = []
    for scores, probabilities in zip(held, sure, strict=True):
        k = int(scores.argmax())
        label = encoder.classes[k] if encoder.threshold is None or scores[k] >= encoder.threshold else None
        out.append(Prediction(label, float(scores[k]), float(probabilities[k])))
    return out


def calibrate(encoder: ClassifierEncoder, rows: Dataset) -> None:
    """Fit the scale of probabilities to validation rows, and take the threshold below which the share 1 - `known` of them is."""
    scores = encoder.scored(rows[encoder.spec.modality])
    place = {label: k for k, label in enumerate(encoder.classes)}
    gold = np.array([place.get(label, -1) for label in rows["label"]])
    encoder.scale = classification.fit_scale(scores[gold >= 0], gold[gold >= 0])
    encoder.threshold = float(np.quantile(scores.max(1), 1 - encoder.spec.answer_rate))
