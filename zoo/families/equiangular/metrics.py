"""What a classifier with class vectors is measured by, beyond what mteb's probes tell of its embedding."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.families.equiangular import dataset
from zoo.metrics import classification
from zoo.schema import Training

if TYPE_CHECKING:
    from zoo.families.equiangular.classifier import ClassifierEncoder

NEIGHBOURS = 10_000  # training rows that neighbours are looked for among
SHOWN = 60  # classes beyond which a confusion matrix shows nothing


def measure(encoder: ClassifierEncoder, tables: Mapping[str, Dataset]) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of `encoder` on the rows of `data`: top1 (first, as the main one), top5, ece, neural collapse; with `train`, knn;
    with `unknown`, whose rows are of no class, ood_auroc and the share that is refused. And what pictures need.

    Raises ZooError for a label that is no class of the encoder.
    """
    vectors, scores = both(encoder, tables["data"])
    gold = positions(encoder, tables["data"])
    sure = classification.compute_softmax(scores, encoder.scale)
    error, bins = classification.compute_calibration_error(sure, gold)
    found = {
        "top1": classification.compute_top_k_accuracy(scores, gold, 1),
        "top5": classification.compute_top_k_accuracy(scores, gold, 5),
    }
    if "train" in tables:
        near = dataset.some(tables["train"], NEIGHBOURS)
        found["knn"] = classification.compute_knn_accuracy(
            vectors, gold, both(encoder, near)[0], positions(encoder, near)
        )
    found |= {"ece": error, **classification.compute_neural_collapse(vectors, gold, targets(encoder))}
    if "unknown" in tables:
        strange = both(encoder, tables["unknown"])[1]
        known, unknown = scores.max(1), strange.max(1)
        if encoder.basis is None:
            known, unknown = sure.max(1), classification.compute_softmax(strange, encoder.scale).max(1)
        found["ood_auroc"] = classification.compute_auroc(known, unknown)
        if encoder.threshold is not None:
            found["refused_unknown"] = float((strange.max(1) < encoder.threshold).mean())
    if encoder.threshold is not None:
        found["answered"] = float((scores.max(1) >= encoder.threshold).mean())
    details: dict[str, Any] = {"calibration": bins, "classes": [str(name) for name in encoder.classes]}
    if len(encoder.classes) <= SHOWN:
        details["confusion"] = classification.count_confusions(scores.argmax(1), gold, len(encoder.classes)).tolist()
    return found, details


def both(encoder: ClassifierEncoder, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, dim) and scores (n, classes) float32, from one pass over the inputs of `rows`."""
    inputs = rows[encoder.spec.modality]
    if encoder.basis is not None:
        vectors = encoder.encode(inputs)
        with torch.inference_mode():
            return vectors, encoder.scores(torch.from_numpy(vectors)).numpy()
    features = encoder.features(inputs)
    with torch.inference_mode():
        return torch.nn.functional.normalize(features, dim=1).numpy(), encoder.scores(features).numpy()


def positions(encoder: ClassifierEncoder, rows: Dataset) -> np.ndarray:
    """(n,) places of the rows' labels among the classes."""
    known = {label: place for place, label in enumerate(encoder.classes)}
    strange = sorted({str(label) for label in set(rows["label"]) - set(known)})
    if strange:
        raise ZooError(f"labels that the encoder has no class for: {', '.join(strange[:5])}")
    return np.array([known[label] for label in rows["label"]])


def targets(encoder: ClassifierEncoder) -> np.ndarray:
    """(classes, dim): the class vectors, or the rows of the softmax head."""
    if encoder.basis is None:
        head: Any = encoder.module["head"]
        return head.weight.detach().numpy()
    return encoder.basis.rows(0, max(encoder.places) + 1)[encoder.places].numpy()


def beside_softmax(
    encoder: ClassifierEncoder, rows: Dataset, validation: Dataset, settings: Training, folder: Path
) -> dict[str, Any]:
    """Train the same with a softmax head, once a `folder`, and measure both heads on the validation rows: {"softmax": figures,
    "equiangular": figures}."""
    path = folder / "figures.json"
    if not path.exists():
        spec = encoder.spec.model_copy(update={"head": "softmax", "train_baseline": False})
        twin = type(encoder).build(spec, seed=encoder.seed, folder=encoder.folder)
        twin.prepare(rows, folder)
        folder.mkdir(parents=True, exist_ok=True)
        twin.fit(rows, settings, folder, validation=validation)
        atomic_files.write_json(path, measure(twin, {"data": validation, "train": rows})[0])
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {
        "softmax": atomic_files.read_json(path),
        "equiangular": measure(encoder, {"data": validation, "train": rows})[0],
    }
