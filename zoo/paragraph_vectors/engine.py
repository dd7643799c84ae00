"""The interface of the two engines that make passes over documents: `CpuEngine` and `GpuEngine`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from zoo.paragraph_vectors.corpus import Batch


class Engine(Protocol):
    """Changes vectors in place by passes over documents.

    `tensors` are NumPy arrays or torch tensors, float32: "documents" (n, d), "outputs" (V, d), and with input vectors of words
    "inputs" (V, d). With a `code_scale` above 0, documents predict by their code: `code_scale` times the signs of their vectors.
    """

    def train(
        self,
        batch: Batch,
        tensors: Mapping[str, Any],
        rates: tuple[float, float],
        seed: int,
        code_scale: float = 0.0,
    ) -> float:
        """Make one pass over `batch` in random order that changes all `tensors`; return the mean loss of a word.

        The learning rate goes linearly from the first to the second of `rates`.
        """

    def infer(
        self, batch: Batch, tensors: Mapping[str, Any], rates: list[float], seed: int, code_scale: float = 0.0
    ) -> float:
        """Make one pass at each of `rates` that changes "documents" alone; return the mean loss of a word at the end.

        The vector of a document does not depend on the other documents of `batch`, except with PV-DM on a GPU.
        """
