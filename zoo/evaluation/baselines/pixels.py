"""Pixels: an image is its colours on a coarse grid, compared by cosine after the mean is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, VectorModel, score_model
from zoo.evaluation.task import ReadyTask

SIDE = 10
"""mteb's probes repeat a logistic regression ten times, which takes seconds at 300 numbers an image."""


class Pixels(Baseline):
    """Nearest neighbours and probes on pixels, on every task of mteb on images alone."""

    name = f"pixels ({SIDE} × {SIDE})"
    needs_rows = False

    @cached_property
    def model(self) -> VectorModel:
        """The model of mteb."""
        return _Model("pixels", "image")

    def suits(self, task: ReadyTask) -> bool:
        """Tasks of mteb on images alone."""
        return task.modalities == {"image"} and task.measure is None

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Nothing is fitted."""
        return [score_model(self.name, self.model, task)]


class _Model(VectorModel):
    def compute_vectors(self, inputs: Sequence[Any]) -> Array:
        """Return (n, 3 * SIDE²) float32."""
        return np.stack([shrink(image, SIDE) for image in inputs])


def shrink(image: Any, side: int) -> Array:
    """Return the colours of an image on a grid of `side` × `side`, minus their mean: (3 * side²,) float32."""
    pixels = np.asarray(image.convert("RGB").resize((side, side)), dtype=np.float32).ravel() / 255
    centred: Array = pixels - pixels.mean()
    return centred
