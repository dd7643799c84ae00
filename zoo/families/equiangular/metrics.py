"""Scores of a classifier with class vectors, besides those of mteb's probes of its embedding."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.core import atomic_files
from zoo.evaluation.task import HITS
from zoo.families.equiangular import dataset
from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.label_geometry import LabelMetric, rules
from zoo.metrics import classification
from zoo.schema import Training

if TYPE_CHECKING:
    from datasets import Dataset

MAX_NEIGHBOUR_ROWS = 10_000  # training rows among which nearest neighbours are searched
MAX_CONFUSION_CLASSES = 60  # a confusion matrix of more classes cannot be read


def evaluate(
    encoder: ClassifierEncoder,
    tables: Mapping[str, Dataset],
    metric: LabelMetric | None = None,
    answers: str = "classes",
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compute the scores of the task `recognition`, and the details that the card's pictures show.

    Args:
        tables: `data`, the rows to score; `train`, training rows for nearest neighbours; `unknown`, rows without a class.
            The last two are optional.
        metric: distances between labels; `answers` says which labels may then be answered.

    Returns scores by name, top1 first as the main one, then top5, knn (with `train`), ece, vector_angle, within_spread,
    ood_auroc and refused_unknown (with `unknown`), answered, and those of `compare_rules` (with `metric`). Raises ZooError for a
    label that is not a class of the encoder.
    """
    vectors, class_scores = encode_and_score(encoder, tables["data"])
    class_ids = find_class_ids(encoder, tables["data"])
    probabilities = classification.compute_softmax(class_scores, encoder.scale)
    error, bins = classification.compute_calibration_error(probabilities, class_ids)
    scores = {
        "top1": classification.compute_top_k_accuracy(class_scores, class_ids, 1),
        "top5": classification.compute_top_k_accuracy(class_scores, class_ids, 5),
    }
    if "train" in tables:
        train = dataset.select_evenly(tables["train"], MAX_NEIGHBOUR_ROWS)
        train_vectors, train_ids = encode_and_score(encoder, train)[0], find_class_ids(encoder, train)
        scores["knn"] = classification.compute_knn_accuracy(vectors, class_ids, train_vectors, train_ids)
    scores |= {"ece": error, **classification.compute_neural_collapse(vectors, class_ids, get_class_vectors(encoder))}
    if "unknown" in tables:
        unknown_scores = encode_and_score(encoder, tables["unknown"])[1]
        if encoder.basis is None:
            confidence, unknown_confidence = (
                probabilities,
                classification.compute_softmax(unknown_scores, encoder.scale),
            )
        else:
            confidence, unknown_confidence = class_scores, unknown_scores
        scores["ood_auroc"] = classification.compute_auroc(confidence.max(1), unknown_confidence.max(1))
        if encoder.threshold is not None:
            scores["refused_unknown"] = float((unknown_scores.max(1) < encoder.threshold).mean())
    if encoder.threshold is not None:
        scores["answered"] = float((class_scores.max(1) >= encoder.threshold).mean())
    details: dict[str, Any] = {"calibration": bins, "classes": [str(name) for name in encoder.classes]}
    details[HITS] = class_scores.argmax(1) == class_ids
    if metric is not None:
        truth = [encoder.classes[place] for place in class_ids]
        compared, note = rules.compare_rules(probabilities, encoder.classes, truth, metric, answers)
        scores |= compared
        details["notes"] = [note, *([] if encoder.is_calibrated else [rules.UNCALIBRATED])]
    if len(encoder.classes) <= MAX_CONFUSION_CLASSES:
        confusion = classification.count_confusions(class_scores.argmax(1), class_ids, len(encoder.classes))
        details["confusion"] = confusion.tolist()
    return scores, details


def encode_and_score(encoder: ClassifierEncoder, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors (n, dim) and scores (n, classes), both float32, from one pass over the inputs of `rows`."""
    inputs = rows[encoder.spec.modality]
    if encoder.basis is not None:
        vectors = encoder.encode(inputs)
        with torch.inference_mode():
            return vectors, encoder.score_vectors(torch.from_numpy(vectors)).numpy()
    features = encoder.compute_features(inputs)
    with torch.inference_mode():
        return torch.nn.functional.normalize(features, dim=1).numpy(), encoder.score_vectors(features).numpy()


def find_class_ids(encoder: ClassifierEncoder, rows: Dataset) -> np.ndarray:
    """Return the position (n,) of each row's label among the encoder's classes. Raises ZooError for an unknown label."""
    return np.array(dataset.find_class_ids(rows["label"], encoder.classes))


def get_class_vectors(encoder: ClassifierEncoder) -> np.ndarray:
    """Return the class vectors (classes, dim), or the weights of the softmax head."""
    if encoder.basis is None:
        head: Any = encoder.module["head"]
        weight: np.ndarray = head.weight.detach().numpy()
        return weight
    return encoder.basis.get_rows(0, max(encoder.vector_ids) + 1)[encoder.vector_ids].numpy()


def compare_with_softmax(
    encoder: ClassifierEncoder, rows: Dataset, validation: Dataset, settings: Training, folder: Path
) -> dict[str, Any]:
    """Train the same encoder with a softmax head, and return scores of both on the validation rows.

    The result is {"softmax": scores, "equiangular": scores}. The baseline is trained once: its scores are kept in `folder`.
    """
    path = folder / "figures.json"
    if not path.exists():
        spec = encoder.spec.model_copy(update={"head": "softmax", "train_baseline": False})
        baseline = type(encoder).build(spec, seed=encoder.seed, folder=encoder.folder)
        baseline.prepare(rows, folder)
        folder.mkdir(parents=True, exist_ok=True)
        baseline.fit(rows, settings.for_baseline(), folder, validation=validation)
        atomic_files.write_json(path, evaluate(baseline, {"data": validation, "train": rows})[0])
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {
        "softmax": atomic_files.read_json(path),
        "equiangular": evaluate(encoder, {"data": validation, "train": rows})[0],
    }
