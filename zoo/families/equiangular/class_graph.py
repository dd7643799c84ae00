"""Make the graph of a classifier: its tower and its projection, with the scores of its classes as a second output."""

from __future__ import annotations

from typing import Any

import torch

from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.families.equiangular.towers import TextTower
from zoo.graph import Graph
from zoo.text import text_graph
from zoo.text.backbone import PooledBackbone


class ClassGraph(torch.nn.Module):
    """A network to outputs of the projection, not normalised; then unit vectors (batch, dim) and scores (batch, classes).

    Args:
        network: takes the arguments of the graph.
        head: from the network's outputs to scores, for head softmax.
        class_vectors: (classes, dim), whose cosines are the scores otherwise.
    """

    class_vectors: torch.Tensor

    def __init__(self, network: torch.nn.Module, head: torch.nn.Module | None, class_vectors: torch.Tensor) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.register_buffer("class_vectors", class_vectors)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors and scores."""
        outputs = self.network(*inputs).float()
        vectors = torch.nn.functional.normalize(outputs, dim=-1)
        return vectors, vectors @ self.class_vectors.T if self.head is None else self.head(outputs)


def make_graph(encoder: ClassifierEncoder) -> Graph:
    """Return the graph of a trained classifier."""
    tower, projection = encoder.tower, encoder.projection
    options: dict[str, Any] = {
        "outputs": ("vector", "scores"),
        "classes": tuple(encoder.classes),
        "scale": float(encoder.scale),
        "threshold": encoder.threshold,
    }
    head, class_vectors = None, torch.zeros(0, encoder.dim)
    if encoder.basis is None:
        head = encoder.module["head"]
    else:
        class_vectors = encoder.basis.get_rows(0, max(encoder.vector_ids) + 1)[encoder.vector_ids]
    if isinstance(tower, TextTower):
        pooled = PooledBackbone(tower.body, projection, encoder.dim, normalizes=False)
        network: torch.nn.Module = text_graph.TokensToVector(pooled)
        options["reader"] = text_graph.make_reader(tower.body, {})
    else:
        network = torch.nn.Sequential(tower.module, projection)
        options |= {"modality": "image", "size": tower.size, "channels": tower.channels}
    return Graph({"": ClassGraph(network, head, class_vectors)}, **options)
