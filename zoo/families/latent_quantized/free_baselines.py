"""Alternatives to learning quantised latents: principal components, product quantisation, a plain autoencoder.

Each has as many numbers an input as the encoder has latents; rounded components and product quantisation have as many bits. All
are measured on the task `infomec`, and those for vectors on `few-shot`.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from zoo.core.errors import ZooError
from zoo.data.split import draw_positions
from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore
from zoo.evaluation.task import HITS, ReadyTask
from zoo.families.latent_quantized import baselines, linear_start
from zoo.families.latent_quantized.encoder import Encoder
from zoo.metrics import infomec_of_encoder
from zoo.metrics.outcomes import Outcomes

MAX_ROWS = 5000  # inputs that components and centroids are fitted to
SIDE = 32  # images are shrunk to so many pixels
MAX_BITS = 8  # of one centroid


def measure(encoder: Any, task: ReadyTask) -> float:
    """Return InfoM, the main score of the task, of anything that encodes as an encoder does."""
    assert task.tables is not None
    sources: Any = task.spec
    tables = {part: table.rows for part, table in task.tables.items()}
    figures, _ = infomec_of_encoder.measure(encoder, tables, sources.sources)
    return next(iter(figures.values()))


def measure_shots(encoder: Any, task: ReadyTask, name: str, bits: float) -> BaselineScore:
    """Return the accuracy in the task `few-shot` of anything that encodes as an encoder does, with the episodes as outcomes."""
    assert task.tables is not None
    spec: Any = task.spec
    scores, details = spec.measure(encoder, {part: table.rows for part, table in task.tables.items()})
    outcomes = Outcomes(spec.outcome_unit, "mean", np.asarray(details[HITS], np.float64))
    return BaselineScore(name, next(iter(scores.values())), outcomes, bytes_per_vector=math.ceil(bits / 8))


class SimpleCodes(Baseline):
    """PCA with as many components as the encoder has latents, and for vectors product quantisation of as many bits.

    On `few-shot`, PCA is rounded to as many bits if latents are quantized: each component to the scalars that k-means finds.
    """

    name = "PCA"

    def suits(self, task: ReadyTask) -> bool:
        """The task `infomec`, and for vectors `few-shot`."""
        encoder = self.training.encoder
        return task.spec.task == "infomec" or (task.spec.task == "few-shot" and encoder.modalities == ("vector",))

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Fit to the training rows."""
        encoder = self.training.encoder
        assert isinstance(encoder, Encoder)
        rows, spec = self.training.rows, encoder.spec
        if len(rows) > MAX_ROWS:
            rows = rows.select(draw_positions(len(rows), MAX_ROWS))
        vectors = _flatten(rows[spec.modality])
        if task.spec.task == "few-shot":
            return self._score_shots(vectors, task)
        scores = [BaselineScore("PCA", measure(_Components(vectors, spec.latents, spec.modality), task))]
        if spec.modality == "vector" and spec.discrete and vectors.shape[1] >= spec.latents:
            bits = min(MAX_BITS, max(1, round(encoder.bits_per_vector / spec.latents)))
            codes = _Centroids(vectors, spec.latents, bits)
            scores.append(BaselineScore(f"product quantisation ({spec.latents * bits} bits)", measure(codes, task)))
        return scores

    def _score_shots(self, vectors: Array, task: ReadyTask) -> list[BaselineScore]:
        encoder = self.training.encoder
        assert isinstance(encoder, Encoder)
        latents, all_bits = encoder.spec.latents, encoder.bits_per_vector
        components = _Components(vectors, latents, "vector")
        if encoder.spec.latent != "quantized":
            return [measure_shots(components, task, "PCA", 32 * latents)]
        rounded = _RoundedComponents(components, vectors, encoder.spec.sizes)
        scores = [measure_shots(rounded, task, f"PCA rounded ({all_bits:.0f} bits)", all_bits)]
        if vectors.shape[1] >= latents:
            bits = min(MAX_BITS, max(1, round(all_bits / latents)))
            codes = _CentroidVectors(vectors, latents, bits)
            name = f"product quantisation ({latents * bits} bits)"
            scores.append(measure_shots(codes, task, name, latents * bits))
        return scores


class PlainAutoencoder(Baseline):
    """The same networks with continuous latents, trained on the same rows with the same settings."""

    name = "a plain autoencoder"
    is_cheap = False

    def suits(self, task: ReadyTask) -> bool:
        """The task `infomec`, for an encoder whose latents are not continuous already."""
        encoder = self.training.encoder
        return task.spec.task == "infomec" and isinstance(encoder, Encoder) and encoder.spec.latent != "continuous"

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Train it. Raises ZooError if the settings of the training are not known."""
        encoder, settings = self.training.encoder, self.training.settings
        assert isinstance(encoder, Encoder)
        if settings is None:
            raise ZooError("the settings of the training are not known")
        folder = Path(tempfile.mkdtemp())
        try:
            plain = baselines.train_baseline(encoder, "continuous", self.training.rows, settings, folder)
        finally:
            shutil.rmtree(folder)
        return [BaselineScore(self.name, measure(plain, task))]


class _Components:
    """An encoder with the methods that the task calls."""

    name, similarity_fn_name = "PCA", "cosine"

    def __init__(self, vectors: Array, components: int, modality: str) -> None:
        self.modalities = (modality,)
        self._pca = linear_start.fit_components(vectors, min(components, *vectors.shape))

    def encode(self, inputs: Sequence[Any]) -> Array:
        """Return (n, components) float64."""
        vectors: Array = self._pca.transform(_flatten(inputs))
        return vectors

    def as_float_vectors(self, vectors: Array) -> Array:
        """Return the vectors themselves."""
        return vectors


class _RoundedComponents(_Components):
    """Principal components, each rounded to the nearest of its own scalars."""

    name = "PCA rounded"

    def __init__(self, components: _Components, vectors: Array, sizes: Sequence[int]) -> None:
        self.modalities, self._components = components.modalities, components
        columns = components.encode(list(vectors)).T
        self._scalars = [linear_start.fit_scalars(column, size) for column, size in zip(columns, sizes, strict=False)]

    def encode(self, inputs: Sequence[Any]) -> Array:
        """Return (n, components) float64 of scalars."""
        columns = [
            scalars[np.abs(column[:, None] - scalars).argmin(1)]
            for column, scalars in zip(self._components.encode(inputs).T, self._scalars, strict=True)
        ]
        return np.stack(columns, axis=1)


class _Centroids:
    """Product quantisation: each part of a vector is replaced by the number of its nearest centroid.

    Source: Jégou et al., "Product quantization for nearest neighbor search", IEEE TPAMI 2011, section II.B.
    """

    name, similarity_fn_name, modalities = "product quantisation", "cosine", ("vector",)

    def __init__(self, vectors: Array, parts: int, bits: int) -> None:
        self._columns = np.array_split(np.arange(vectors.shape[1]), parts)
        count = min(2**bits, len(vectors))
        self._parts = [
            MiniBatchKMeans(count, n_init=1, random_state=0).fit(vectors[:, columns]) for columns in self._columns
        ]

    def encode(self, inputs: Sequence[Any]) -> Array:
        """Return (n, parts) int64."""
        vectors = _flatten(inputs)
        pairs = zip(self._parts, self._columns, strict=True)
        return np.stack([part.predict(vectors[:, columns]) for part, columns in pairs], axis=1).astype(np.int64)


class _CentroidVectors(_Centroids):
    """Product quantisation whose codes are compared by their centroids, less the mean of the training vectors."""

    def __init__(self, vectors: Array, parts: int, bits: int) -> None:
        super().__init__(vectors, parts, bits)
        self._mean = vectors.mean(0)

    def as_float_vectors(self, codes: Array) -> Array:
        """Return (n, d) float32 vectors of codes (n, parts)."""
        centroids = [part.cluster_centers_[column] for part, column in zip(self._parts, codes.T, strict=True)]
        vectors: Array = np.concatenate(centroids, axis=1) - self._mean
        return vectors


def _flatten(inputs: Sequence[Any]) -> Array:
    """Return vectors (n, d) float32 of vectors or images."""
    if not hasattr(inputs[0], "convert"):
        return np.asarray(inputs, dtype=np.float32)
    return np.stack(
        [np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32).ravel() / 255 for image in inputs]
    )
