"""Alternatives to training class vectors: simple classifiers on vectors that nobody trained.

On a pretrained backbone these are its own vectors; for a network from scratch they are the pixels.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from zoo.core.errors import ZooError
from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, TrainingRows
from zoo.evaluation.baselines.pixels import shrink
from zoo.evaluation.task import HITS, ReadyTask
from zoo.families.equiangular import dataset, metrics
from zoo.families.equiangular.encoder import Encoder
from zoo.metrics import classification
from zoo.metrics.outcomes import Outcomes
from zoo.schema import Training

MAX_ROWS = 10_000  # training rows that the classifiers learn from
NEIGHBOURS = 10
SIDE = 16  # pixels are those of the image shrunk to this side


class FrozenVectors(Baseline):
    """Logistic regression, nearest centroid and nearest neighbours on frozen vectors or on pixels."""

    name = "classifiers on frozen vectors"

    def suits(self, task: ReadyTask) -> bool:
        """The task `recognition`."""
        return task.spec.task == "recognition"

    @cached_property
    def untrained(self) -> Encoder:
        """The encoder with the weights that the training started from."""
        trained = self.training.encoder
        assert isinstance(trained, Encoder)
        return Encoder.build(trained.spec, seed=trained.seed, folder=trained.folder)

    def embed(self, rows: Dataset) -> Array:
        """Return unit vectors (n, d) float32 of the inputs: of the backbone, or pixels if it is made from scratch."""
        inputs = rows[self.untrained.spec.modality]
        if self.untrained.backbone_name:
            vectors = self.untrained.compute_features(inputs).numpy()
        else:
            vectors = np.stack([shrink(image, SIDE) for image in inputs])
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit_vectors: Array = vectors / np.maximum(norms, 1e-12)
        return unit_vectors

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Learn from the task's training rows, or else from the encoder's. Unknown inputs are told by the best class's score."""
        assert task.tables is not None
        tables = {part: table.rows for part, table in task.tables.items()}
        train = dataset.select_evenly(tables.get("train", self.training.rows), MAX_ROWS)
        classes = sorted(set(train["label"]))
        train_ids = np.array(dataset.find_class_ids(train["label"], classes))
        labels = np.array(dataset.find_class_ids(tables["data"]["label"], classes))
        vectors = {"train": self.embed(train), "data": self.embed(tables["data"])}
        if "unknown" in tables:
            vectors["unknown"] = self.embed(tables["unknown"])
        kind = "frozen vectors" if self.untrained.backbone_name else "pixels"
        return [
            _describe(f"{name} on {kind}", scores["data"], labels, scores.get("unknown"))
            for name, scores in _score_classes(vectors, train_ids, len(classes)).items()
        ]


def _score_classes(vectors: dict[str, Array], train_ids: Array, classes: int) -> dict[str, dict[str, Array]]:
    """Return the scores (n, classes) of three classifiers, by name and by the part of the task."""
    train = vectors["train"]
    tested = {part: part_vectors for part, part_vectors in vectors.items() if part != "train"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a regression that has not quite converged is still a baseline
        regression = LogisticRegression(C=10.0, max_iter=100).fit(train, train_ids)
    membership = np.eye(classes, dtype=np.float32)[train_ids]
    centroids = membership.T @ train
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    return {
        "logistic regression": {part: _spread(regression, rows, classes) for part, rows in tested.items()},
        "nearest centroid": {part: rows @ centroids.T for part, rows in tested.items()},
        f"{NEIGHBOURS} nearest neighbours": {part: _vote(rows, train, membership) for part, rows in tested.items()},
    }


def _spread(regression: LogisticRegression, vectors: Array, classes: int) -> Array:
    """Return probabilities (n, classes), also if some class has no training row."""
    probabilities = np.zeros((len(vectors), classes))
    probabilities[:, regression.classes_] = regression.predict_proba(vectors)
    return probabilities


def _vote(vectors: Array, train: Array, membership: Array, block: int = 1024) -> Array:
    """Return the sums of cosines to the nearest training vectors of each class, (n, classes)."""
    count, votes = min(NEIGHBOURS, len(train)), []
    for begin in range(0, len(vectors), block):
        cosines = vectors[begin : begin + block] @ train.T
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weights = np.take_along_axis(cosines, nearest, 1)
        votes.append(np.einsum("nk,nkc->nc", weights, membership[nearest]))
    return np.concatenate(votes)


def _describe(name: str, scores: Array, labels: Array, unknown: Array | None) -> BaselineScore:
    hits = (scores.argmax(1) == labels).astype(float)
    figures = {}
    if unknown is not None:
        figures["ood_auroc"] = classification.compute_auroc(scores.max(1), unknown.max(1))
    return BaselineScore(name, float(hits.mean()), Outcomes("rows", "mean", hits), figures=figures)


class SameNetwork(Baseline):
    """The same network with a learned softmax head, trained on the same rows with the same settings."""

    name = "the same network with a softmax head"
    is_cheap = False

    def __init__(self, training: TrainingRows) -> None:
        super().__init__(training)
        self._trained: Encoder | None = None

    def suits(self, task: ReadyTask) -> bool:
        """The task `recognition`, for an encoder without a softmax head of its own."""
        spec: Any = self.training.encoder.spec
        return task.spec.task == "recognition" and spec.head != "softmax"

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Train once, then score as the encoder is scored. Raises ZooError if the settings of the training are not known."""
        assert task.tables is not None
        if self._trained is None:
            self._trained = self._train()
        tables = {part: table.rows for part, table in task.tables.items()}
        figures, details = metrics.evaluate(self._trained, tables)
        outcomes = Outcomes("rows", "mean", np.asarray(details[HITS], dtype=float))
        return [
            BaselineScore(
                self.name, figures["top1"], outcomes, figures={k: v for k, v in figures.items() if k == "ood_auroc"}
            )
        ]

    def _train(self) -> Encoder:
        encoder = self.training.encoder
        assert isinstance(encoder, Encoder)
        settings = self.training.settings
        if not isinstance(settings, Training):
            raise ZooError("the settings of the training are not known")
        spec = encoder.spec.model_copy(update={"head": "softmax", "train_baseline": False})
        network = Encoder.build(spec, seed=encoder.seed, folder=encoder.folder)
        folder = Path(tempfile.mkdtemp())
        try:
            network.prepare(self.training.rows, folder)
            network.fit(self.training.rows, settings.for_baseline(), folder, validation=None)
        finally:
            shutil.rmtree(folder)
        return network
