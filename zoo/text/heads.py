"""Linear heads for shallow layers, in closed form: what a layer's pooled vector tells of the last layer's embedding.

The last layer's unit vectors are turned so that their first components carry the most: to their principal axes, of which
the leading ones are then mixed, because a cosine over a few components of very unequal size hears only the first. A
rotation changes no cosine of the whole embedding. Each shallow layer gets the ridge regression from its own pooled vectors
to the turned ones. A head is one matrix and a bias, so it folds into the Dense module of an export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch, F = lazy("torch"), lazy("torch.nn.functional")


class HeadFit:
    """Sums over texts, fed in batches, from which all heads follow; float64, memory independent of the number of texts.

    Args:
        depth: number of layers; width: components d of a pooled vector.
        ridge: λ as a share of the mean variance of a component.
        mixed: how many leading axes are mixed.
    """

    def __init__(self, depth: int, width: int, ridge: float = 1e-2, mixed: int = 128) -> None:
        self.depth, self.width, self.ridge, self.mixed = depth, width, ridge, min(mixed, width)
        self.count = 0
        self._sums = torch.zeros(depth, width, dtype=torch.float64)
        self._target = torch.zeros(width, dtype=torch.float64)
        self._moments = torch.zeros(depth, width, width, dtype=torch.float64)
        self._cross = torch.zeros(depth, width, width, dtype=torch.float64)

    def add(self, states: list[torch.Tensor]) -> None:
        """Pooled vectors (texts, d) of every layer, first to last."""
        given = [each.double().cpu() for each in states]
        target = F.normalize(given[-1], dim=-1)
        given[-1] = target
        self.count += len(target)
        self._target += target.sum(0)
        for n, each in enumerate(given):
            self._sums[n] += each.sum(0)
            self._moments[n] += each.T @ each
            self._cross[n] += each.T @ target

    def solve(self) -> dict[int, tuple[torch.Tensor, torch.Tensor | None]]:
        """Weight (d, d) and bias (d,), float32, of each layer's head, from layer 1; the last one is a rotation and has no
        bias. Without any text every head is the identity."""
        if not self.count:
            return {n: (torch.eye(self.width), None) for n in range(1, self.depth + 1)}
        values, axes = torch.linalg.eigh(self._moments[-1])
        axes = axes[:, values.argsort(descending=True)]
        # eigh leaves signs open; fixed, the same texts give the same heads everywhere
        axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
        generator = torch.Generator().manual_seed(0)
        mix = torch.linalg.qr(torch.randn(self.mixed, self.mixed, generator=generator, dtype=torch.float64)).Q
        rotation = torch.cat([axes[:, : self.mixed] @ mix, axes[:, self.mixed :]], dim=1)
        heads: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {
            self.depth: (rotation.T.float().contiguous(), None)
        }
        eye, goal = torch.eye(self.width, dtype=torch.float64), self._target / self.count
        for n in range(1, self.depth):
            mean = self._sums[n - 1] / self.count
            moment = self._moments[n - 1] - self.count * torch.outer(mean, mean)
            cross = self._cross[n - 1] - self.count * torch.outer(mean, goal)
            weight = torch.linalg.solve(moment + self.ridge * moment.diagonal().mean() * eye, cross @ rotation).T
            heads[n] = (weight.float().contiguous(), (goal @ rotation - weight @ mean).float())
        return heads


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    """A head of its own tensors, from weight (m, d) and bias (m,) or None."""
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    head.weight.data = weight.clone()
    if bias is not None:
        head.bias.data = bias.clone()
    return head


def narrowed(head: torch.nn.Linear, dim: int) -> torch.nn.Linear:
    """The first `dim` outputs of a head, as a head of its own tensors."""
    return linear(head.weight.detach()[:dim], None if head.bias is None else head.bias.detach()[:dim])
