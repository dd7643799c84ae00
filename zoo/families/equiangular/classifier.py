"""A classifier in use whose classes have vectors: inputs to unit vectors, and to a score of every class. A family that trains one
derives from `ClassifierEncoder` and says how.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.equiangular import towers
from zoo.families.equiangular.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.families.equiangular import basis_vectors
else:
    torch = lazy("torch")


class ClassifierEncoder(BaseEncoder):
    """Encodes images or texts as unit vectors (n, dim) float32; the nearest class vector is the class.

    Attributes:
        classes: names in order; places: the row of the basis that each has.
        basis: its class vectors and the free ones; None for head softmax.
        scale: what multiplies scores before the softmax of `predict`; threshold: the least score that is an answer, or None.
    """

    module: torch.nn.ModuleDict
    spec: Spec

    def __init__(self, spec: Spec, tower: towers.Tower, project: torch.nn.Module) -> None:
        super().__init__()
        self.spec, self.tower, self.project = spec, tower, project
        self.module = torch.nn.ModuleDict({"tower": tower.module, "project": project})
        self.dim = spec.dim if spec.head == "equiangular" else tower.width
        self.backbone_name, self.backbone_revision = tower.name, tower.revision
        self.classes: list[str | int] = []
        self.places: list[int] = []
        self.basis: basis_vectors.Basis | None = None
        self.moments: torch.Tensor | None = None
        self.scale, self.threshold = 1.0, None  # type: float, float | None

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Unit vectors (n, dim) float32 of texts, or of images: PIL images, arrays (h, w[, 3]) of uint8, paths, file bytes."""
        return self.tower.encode(self.project, self.dim, inputs, show_progress=show_progress, precision=precision)

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` in blocks."""
        return self.tower.stream(self.project, self.dim, inputs, precision)

    def features(self, inputs: Iterable[Any]) -> torch.Tensor:
        """(n, width) float32 of the backbone alone, not normalised."""
        return towers.features(self.tower, inputs)

    def scored(self, inputs: Iterable[Any]) -> np.ndarray:
        """(n, classes) float32: cosines with every class's vector; with head softmax its scores."""
        with torch.inference_mode():
            if self.basis is None:
                return self.scores(self.project(self.features(inputs))).numpy()
            return self.scores(torch.from_numpy(self.encode(inputs))).cpu().numpy()

    def scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, classes): cosines of (n, dim) outputs and the classes' vectors, or what the softmax head makes of them."""
        if self.basis is None:
            return self.module["head"](vectors)
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        self.basis = self.basis.to(unit.device)
        cosines = self.basis.cosines(unit, max(self.places) + 1)
        return cosines if self.places == list(range(len(self.places))) else cosines[:, self.places]
