"""Fit a linear head for each shallow layer in closed form: it maps a layer's pooled vectors to the last layer's embeddings.

The embeddings are first rotated, which changes no cosine. The rotation puts the principal axes first, so that few components
carry most, and then mixes the leading axes, because a cosine over a few components of very unequal size depends on the first
one alone. Each shallow layer gets the ridge regression from its own pooled vectors to the rotated embeddings. A head is a
matrix and a bias, so an export can store it as a Dense module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

Head = tuple[torch.Tensor, torch.Tensor | None]
"""Weight (m, d) and bias (m,) of a linear head."""


class HeadFit:
    """Collects sums over texts, in batches, and solves for all heads.

    The sums are float64. Their memory does not depend on the number of texts.

    Args:
        depth: number of layers.
        width: components d of a pooled vector.
        ridge: λ as a share of the mean variance of a component.
        mixed: number of leading axes that are mixed.
    """

    def __init__(self, depth: int, width: int, ridge: float = 1e-2, mixed: int = 128) -> None:
        self.depth, self.width, self.ridge, self.mixed = depth, width, ridge, min(mixed, width)
        self.count = 0
        self._sums = torch.zeros(depth, width, dtype=torch.float64)
        self._target_sum = torch.zeros(width, dtype=torch.float64)
        self._moments = torch.zeros(depth, width, width, dtype=torch.float64)
        self._cross_moments = torch.zeros(depth, width, width, dtype=torch.float64)

    def add(self, states: Sequence[torch.Tensor]) -> None:
        """Add the pooled vectors (texts, d) of every layer, first to last."""
        layers = [vectors.double().cpu() for vectors in states]
        target = F.normalize(layers[-1], dim=-1)
        layers[-1] = target
        self.count += len(target)
        self._target_sum += target.sum(0)
        for n, vectors in enumerate(layers):
            self._sums[n] += vectors.sum(0)
            self._moments[n] += vectors.T @ vectors
            self._cross_moments[n] += vectors.T @ target

    def solve(self, rotation: torch.Tensor | None = None) -> dict[int, Head]:
        """Return weight (d, d) and bias (d,), float32, of each layer's head; layers count from 1.

        The last layer's head is a rotation and has no bias. If no text was added, every head is the identity.

        Args:
            rotation: (d, d) float64 with orthonormal columns. Default: the principal axes, the leading ones mixed.
        """
        if not self.count:
            return {n: (torch.eye(self.width), None) for n in range(1, self.depth + 1)}
        rotation = self._compute_rotation() if rotation is None else rotation
        heads: dict[int, Head] = {self.depth: (rotation.T.float().contiguous(), None)}
        identity, target_mean = torch.eye(self.width, dtype=torch.float64), self._target_sum / self.count
        for n in range(1, self.depth):
            mean = self._sums[n - 1] / self.count
            moment = self._moments[n - 1] - self.count * torch.outer(mean, mean)
            cross = self._cross_moments[n - 1] - self.count * torch.outer(mean, target_mean)
            weight = torch.linalg.solve(moment + self.ridge * moment.diagonal().mean() * identity, cross @ rotation).T
            heads[n] = (weight.float().contiguous(), (target_mean @ rotation - weight @ mean).float())
        return heads

    def _compute_rotation(self) -> torch.Tensor:
        """Return (d, d) with orthonormal columns: the principal axes of the embeddings, the leading ones mixed."""
        axes = _compute_axes(self._moments[-1])
        generator = torch.Generator().manual_seed(0)
        mix = torch.linalg.qr(torch.randn(self.mixed, self.mixed, generator=generator, dtype=torch.float64)).Q
        return torch.cat([axes[:, : self.mixed] @ mix, axes[:, self.mixed :]], dim=1)


def compute_pair_rotation(first: torch.Tensor, second: torch.Tensor, spread: float = 0.3) -> torch.Tensor:
    """Return (d, d) float64 with orthonormal columns: the axes on which the two sides of a pair agree most come first.

    They are the principal axes of the covariance between the two sides, which is that of positives minus that of random pairs. So
    the first components tell a positive from other texts. A rotation changes no cosine of whole vectors.

    Args:
        first, second: unit vectors (pairs, d) of the two sides.
        spread: weight of the covariance of all vectors, which decides among axes that few pairs tell anything of.
    """
    vectors = torch.cat([first, second]).double()
    centred = vectors - vectors.mean(0)
    left, right = centred[: len(first)], centred[len(first) :]
    agreement = left.T @ right / len(first)
    return _compute_axes((agreement + agreement.T) / 2 + spread * centred.T @ centred / len(centred))


def _compute_axes(matrix: torch.Tensor) -> torch.Tensor:
    """Return the eigenvectors (d, d) of a symmetric matrix as columns, by descending eigenvalue."""
    values, axes = torch.linalg.eigh(matrix)
    axes = axes[:, values.argsort(descending=True)]
    # eigh leaves the signs open; fixed signs give the same heads for the same texts on every machine
    signed: torch.Tensor = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
    return signed


def make_head(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    """Make a head with copies of weight (m, d) and bias (m,), or without a bias."""
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    head.weight.data = weight.clone()
    if bias is not None:
        head.bias.data = bias.clone()
    return head


def narrow_head(head: torch.nn.Linear, dim: int) -> torch.nn.Linear:
    """Make a head with copies of the first `dim` outputs of `head`."""
    return make_head(head.weight.detach()[:dim], None if head.bias is None else head.bias.detach()[:dim])
