"""`ClassifierEncoder`: a classifier in use whose classes have vectors. `encoder.Encoder` adds training and the model folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from zoo.encoder import Encoder as BaseEncoder
from zoo.families.equiangular import basis_vectors, towers
from zoo.families.equiangular.spec import Spec


class ClassifierEncoder(BaseEncoder):
    """Encodes images or texts as unit vectors (n, dim) float32; the nearest class vector gives the class.

    Attributes:
        tower: the backbone, of texts or of images.
        projection: the linear layer from the backbone's features (n, width) to (n, dim); the identity for head softmax.
        classes: names of the classes, in order.
        vector_ids: the row of the basis that is the vector of each class.
        basis: class vectors and free vectors; None for head softmax.
        second_moments: (width + 1, width + 1) float32 of training features, which `add_classes` needs; None before `finish`.
        scale: `predict` multiplies scores by it before the softmax.
        threshold: the least score that `predict` answers, or None.
    """

    module: torch.nn.ModuleDict
    spec: Spec

    def __init__(self, spec: Spec, tower: towers.Tower, projection: torch.nn.Module) -> None:
        super().__init__()
        self.spec, self.tower, self.projection = spec, tower, projection
        # Training checkpoints name their tensors by these keys.
        self.module = torch.nn.ModuleDict({"tower": tower.module, "project": projection})
        self.dim = spec.dim if spec.head == "equiangular" else tower.width
        self.backbone_name, self.backbone_revision = tower.name, tower.revision
        self.classes: list[str | int] = []
        self.vector_ids: list[int] = []
        self.basis: basis_vectors.Basis | None = None
        self.second_moments: torch.Tensor | None = None
        self.scale = 1.0
        self.threshold: float | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether the scale was fitted to validation rows, so that probabilities say how often the encoder is right."""
        return self.threshold is not None

    def _encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Return unit vectors (n, dim) float32.

        Args:
            inputs: texts, or images: PIL images, arrays (h, w[, 3]) of uint8, paths, or bytes of image files.
            show_progress: show a progress bar on stderr.
            precision: see `zoo.encoder.Encoder.encode`.
        """
        return self.tower.encode(self.projection, self.dim, inputs, show_progress=show_progress, precision=precision)

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """Encode in blocks, in order."""
        return self.tower.stream(self.projection, self.dim, inputs, precision)

    def compute_features(self, inputs: Iterable[Any]) -> torch.Tensor:
        """Return the features (n, width) float32 of the backbone alone, not normalised."""
        return towers.compute_features(self.tower, inputs)

    def compute_scores(self, inputs: Iterable[Any]) -> np.ndarray:
        """Return scores (n, classes) float32: cosines with the class vectors, or outputs of the softmax head."""
        with torch.inference_mode():
            if self.basis is None:
                return self.score_vectors(self.projection(self.compute_features(inputs))).numpy()
            return self.score_vectors(torch.from_numpy(self.encode(inputs))).cpu().numpy()

    def score_vectors(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return scores (n, classes) of outputs (n, dim) of the projection, which need not be normalised."""
        if self.basis is None:
            logits: torch.Tensor = self.module["head"](vectors)
            return logits
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        self.basis = self.basis.to(unit.device)
        cosines = self.basis.compute_cosines(unit, max(self.vector_ids) + 1)
        if self.vector_ids == list(range(len(self.vector_ids))):
            return cosines
        return cosines[:, self.vector_ids]
