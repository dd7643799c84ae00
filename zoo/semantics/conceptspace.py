"""A space with one component per concept: what a text's vector says of each of them, non-negative and sparse.

A component is the positive pointwise mutual information of text and concept, log p(c | text) - log p(c) where that is above a
threshold, so that a frequent concept does not count more for being frequent; p is a softmax over the concepts of a level, and
its prior is that of the tags. Then each parent is raised to its highest child, and the largest components stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from zoo.ops import concepts as ops
from zoo.semantics.concepts import Concepts

SCALE = 20.0  # of a cosine, at the start
NOTHING = 1e-12


class Space(torch.nn.Module):
    """From vectors (n, width) of a tower to components (n, C). Opaque ones are those of a linear map, which mean nothing."""

    prior: torch.Tensor
    levels: torch.Tensor

    def __init__(self, concepts: Concepts, width: int, *, opaque: bool = False) -> None:
        super().__init__()
        count = len(concepts)
        self.opaque = opaque
        self.weight = torch.nn.Parameter(torch.randn(count, width) / math.sqrt(width))
        self.bias = torch.nn.Parameter(torch.zeros(count))
        self.scale = torch.nn.Parameter(torch.tensor(math.log(SCALE)))
        levels = torch.tensor(concepts.levels, device="cpu")
        depths = range(max(concepts.levels) + 1)
        self.threshold = torch.nn.Parameter(torch.zeros(len(depths)))
        self.register_buffer("prior", torch.zeros(count))
        self.register_buffer("levels", levels, persistent=False)
        self.groups = [torch.tensor([i for i, n in enumerate(concepts.levels) if n == d], device="cpu") for d in depths]
        self.steps = ops.edges(concepts.parents, concepts.levels)

    def start(self, counts: torch.Tensor) -> None:
        """Before training: how many examples each concept has, (C,)."""
        total = torch.zeros(len(self.groups)).index_add(0, self.levels, counts)
        self.prior.copy_((counts / total[self.levels]).log())

    def start_from(self, names: torch.Tensor, texts: torch.Tensor) -> None:
        """Before training: concepts are where their names (C, width) are, apart from what all names
        share, and whitened, so that a text is as near to another one by its components as it is by its vector; 0 is where the
        mean of some `texts` (n, width) is. All are unit vectors."""
        left, sizes, right = torch.linalg.svd(names - names.mean(0), full_matrices=False)
        whole = sizes > NOTHING + 1e-4 * sizes[0]
        if not whole.any():  # a single name
            return
        directions = left[:, whole] @ right[whole]
        with torch.no_grad():
            self.weight.copy_(directions / torch.linalg.vector_norm(directions, dim=1).mean())
            self.bias.copy_(-self.scale.exp() * (self.weight @ texts.mean(0)))

    def gain(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, C) float32: pointwise mutual information, or the components themselves where they are opaque."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
            raw = unit @ self.weight.T * self.scale.exp() + self.bias
            if self.opaque:
                return raw
            return ops.information(raw, self.prior, self.groups)

    def components(self, gain: torch.Tensor, active: int) -> torch.Tensor:
        """(n, C) from `gain`: at most `active` are not 0, no parent is below its child. Not normalised."""
        if self.opaque:
            return gain
        values = torch.relu(gain - self.threshold[self.levels])
        return ops.largest(ops.lift(values, self.steps), active, self.levels)


def unit(components: torch.Tensor) -> torch.Tensor:
    """Rows at length one; a row of zeros stays."""
    return components / torch.linalg.vector_norm(components, dim=-1, keepdim=True).clamp(min=NOTHING)


class Tower(torch.nn.Module):
    """Tokens to unit vectors (n, C), or to p(c | text).

    Args:
        factors: (C,) by which components are multiplied.
    """

    factors: torch.Tensor

    def __init__(
        self, reader: torch.nn.Module, space: Space, active: int, factors: torch.Tensor, *, probabilities: bool = False
    ) -> None:
        super().__init__()
        self.reader, self.active, self.probabilities = reader, active, probabilities
        self._space = [space]  # not a part: its parameters stay float32
        self.register_buffer("factors", factors)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, tokens) to (batch, C) float32."""
        space = self._space[0]
        gain = space.gain(self.reader(batch))
        if self.probabilities:
            return (gain + space.prior).exp()
        return unit(space.components(gain, self.active) * self.factors)
