"""What a user would do instead of training an autoencoder: principal components, as many as there are latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from zoo.data.split import draw_positions
from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore
from zoo.evaluation.task import ReadyTask
from zoo.families.latent_quantized.spec import Spec
from zoo.metrics import infomec_of_encoder

MAX_ROWS = 5000  # inputs that the components are fitted to
SIDE = 32  # images are shrunk to so many pixels


class PrincipalComponents(Baseline):
    """PCA with as many components as the encoder has latents, on the task `infomec`."""

    name = "PCA"

    def suits(self, task: ReadyTask) -> bool:
        """The task `infomec`."""
        return task.spec.task == "infomec"

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Fit to the training rows, then measure InfoMEC of the components."""
        assert task.tables is not None
        sources: Any = task.spec
        encoder = self.training.encoder
        spec = encoder.spec
        assert isinstance(spec, Spec)
        rows = self.training.rows
        if len(rows) > MAX_ROWS:
            rows = rows.select(draw_positions(len(rows), MAX_ROWS))
        components = _Components(rows[spec.modality], spec.latents, spec.modality)
        tables = {part: table.rows for part, table in task.tables.items()}
        figures, _ = infomec_of_encoder.measure(components, tables, sources.sources)  # type: ignore[arg-type]
        return [BaselineScore(self.name, next(iter(figures.values())))]


class _Components:
    """What the task needs of an encoder."""

    name, similarity_fn_name = "PCA", "cosine"

    def __init__(self, inputs: Sequence[Any], components: int, modality: str) -> None:
        self.modalities = (modality,)
        vectors = _flatten(inputs)
        self._pca = PCA(min(components, *vectors.shape), svd_solver="randomized", random_state=0).fit(vectors)

    def encode(self, inputs: Sequence[Any]) -> Array:
        """Return (n, components) float64."""
        vectors: Array = self._pca.transform(_flatten(inputs))
        return vectors


def _flatten(inputs: Sequence[Any]) -> Array:
    """Return vectors (n, d) float32 of vectors or images."""
    if not hasattr(inputs[0], "convert"):
        return np.asarray(inputs, dtype=np.float32)
    return np.stack(
        [np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32).ravel() / 255 for image in inputs]
    )
