"""The kinds of maps between two spaces. Each is an affine map, and one has a small network beside it.

Sources: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966 (`orthogonal`); Moschella
et al., "Relative representations enable zero-shot latent space communication", arXiv 2209.15430 (`relative`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.bridge.anchors import Anchors, normalise_rows

Vectors = npt.NDArray[np.float32]

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Ridge penalties to choose from, by generalised cross-validation."""
MAX_ANCHORS = 1024
SHRINKAGES = (1e-6, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Penalties of the decoding from cosines with anchors, as multiples of their mean eigenvalue. The best on the rows is taken."""
HIDDEN = 256
EPOCHS = 30
BATCH_SIZE = 128
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class SpaceMap:
    """x ↦ W(x - mean) + bias, and for `mlp` + V·relu(U(x - mean) + u).

    Attributes:
        mean: (s,) float32, the centre of the source.
        weight: (s, t) float32.
        bias: (t,) float32, the centre of the target.
        network: the arrays of the small network by name; {} for the other kinds.
    """

    mean: Vectors
    weight: Vectors
    bias: Vectors
    network: Mapping[str, Vectors] = field(default_factory=dict)

    def apply(self, vectors: Vectors) -> Vectors:
        """Map vectors (n, s) to (n, t) float32."""
        centred = vectors - self.mean
        mapped: npt.NDArray[Any] = centred @ self.weight + self.bias
        if self.network:
            hidden = np.maximum(centred @ self.network["inner"] + self.network["inner_bias"], 0)
            mapped = mapped + hidden @ self.network["outer"]
        return mapped.astype(np.float32, copy=False)

    def tensors(self) -> dict[str, Vectors]:
        """Return the arrays by name."""
        network = {f"network.{name}": array for name, array in self.network.items()}
        return {"mean": self.mean, "weight": self.weight, "bias": self.bias, **network}

    @classmethod
    def read(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> SpaceMap:
        """Return what `tensors` gave. Raise KeyError if an array is missing."""
        network = {
            name.removeprefix("network."): array for name, array in tensors.items() if name.startswith("network.")
        }
        return cls(tensors["mean"], tensors["weight"], tensors["bias"], network)


def fit_orthogonal(source: Vectors, target: Vectors, seed: int = 0) -> SpaceMap:
    """Fit a rotation with a scale. If the widths differ, it has orthonormal rows or columns."""
    from scipy.linalg import orthogonal_procrustes

    left, right = source.astype(np.float64), target.astype(np.float64)
    means = left.mean(0), right.mean(0)
    left, right = left - means[0], right - means[1]
    width = max(left.shape[1], right.shape[1])
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (left, right)]
    rotation, trace = orthogonal_procrustes(*padded)
    rotation = rotation[: left.shape[1], : right.shape[1]]
    rotated = left @ rotation
    scale = float(trace) / max(float((rotated**2).sum()), 1e-12)
    return _make(means[0], scale * rotation, means[1])


def fit_ridge(source: Vectors, target: Vectors, seed: int = 0) -> SpaceMap:
    """Fit a linear map by ridge regression, whose penalty generalised cross-validation chooses."""
    from sklearn.linear_model import RidgeCV

    means = source.mean(0, dtype=np.float64), target.mean(0, dtype=np.float64)
    model = RidgeCV(ALPHAS, fit_intercept=False).fit(source - means[0], target - means[1])
    return _make(means[0], model.coef_.T, means[1])


def fit_relative(source: Vectors, target: Vectors, seed: int = 0) -> SpaceMap:
    """Fit a map through cosines with shared anchors, which are drawn from the rows.

    A source vector becomes its inner products with the centred anchors of unit norm. The target vector is the one whose products
    with the same anchors in the target are nearest to these, by least squares with the best of the penalties SHRINKAGES.
    """
    rows = np.random.default_rng(seed).permutation(len(source))[:MAX_ANCHORS]
    anchors = Anchors.place(source[rows]), Anchors.place(target[rows])
    left, right = (part - side.mean for part, side in zip((source, target), anchors, strict=True))
    products, square = anchors[0].unit.T @ anchors[1].unit, anchors[1].unit.T @ anchors[1].unit
    best, weight = -np.inf, products
    for shrinkage in SHRINKAGES:
        penalty = shrinkage * np.trace(square) / len(square)
        trial = np.linalg.solve(square + penalty * np.eye(len(square)), products.T).T
        value = float((normalise_rows(left @ trial) * normalise_rows(right)).sum(1).mean())
        if value > best:
            best, weight = value, trial
    mapped = left @ weight
    return _make(anchors[0].mean, weight * float((mapped * right).sum() / (mapped**2).sum()), anchors[1].mean)


def fit_mlp(source: Vectors, target: Vectors, seed: int = 0) -> SpaceMap:
    """Fit a small network beside the ridge map, by the cosine distance of mapped and true vectors."""
    import torch

    start = fit_ridge(source, target)
    left, right = (torch.from_numpy(part) for part in (source - start.mean, target))
    linear = torch.from_numpy(start.apply(source))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = torch.nn.Parameter(torch.randn(left.shape[1], HIDDEN) * left.shape[1] ** -0.5)
        inner_bias = torch.nn.Parameter(torch.zeros(HIDDEN))
        outer = torch.nn.Parameter(torch.zeros(HIDDEN, right.shape[1]))
        optimizer = torch.optim.AdamW([inner, inner_bias, outer], lr=LEARNING_RATE, weight_decay=0.01)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(left)), BATCH_SIZE):
                mapped = linear[rows] + torch.relu(left[rows] @ inner + inner_bias) @ outer
                loss = 1 - torch.nn.functional.cosine_similarity(mapped, right[rows]).mean()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
    network = {"inner": inner, "inner_bias": inner_bias, "outer": outer}
    arrays = {name: value.detach().numpy() for name, value in network.items()}
    return SpaceMap(start.mean, start.weight, start.bias, arrays)


FITS: Mapping[str, Callable[[Vectors, Vectors, int], SpaceMap]] = {
    "orthogonal": fit_orthogonal,
    "ridge": fit_ridge,
    "mlp": fit_mlp,
    "relative": fit_relative,
}
"""The kinds by name. The first ones are preferred if they keep as much."""


def _make(mean: Any, weight: Any, bias: Any) -> SpaceMap:
    centre, matrix, shift = (np.ascontiguousarray(part, np.float32) for part in (mean, weight, bias))
    return SpaceMap(centre, matrix, shift)
