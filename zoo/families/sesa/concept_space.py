"""A space with one component per concept: what a text's vector says of each of them, non-negative and sparse.

A component is what speaks for the concept, a logit that is 0 where the mean text is, where that is above a threshold. Threshold
and unit are the concept's own and trained by the ranking. Then each parent is raised to its highest child, and the largest
components stay.

How likely a tag is, p(c | text), follows from the same weights with a sharpness and a bias of its own, and the prior p(c) of the
tags beside them: how often people write a concept down must not decide how much it counts in a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from zoo.families.sesa import hierarchy as ops
from zoo.families.sesa.concepts import Concepts

SCALE = 20.0  # of a cosine, at the start
NOTHING = 1e-12
OWN = ("threshold", "stretch", "sharpness", "habit")  # what a space of concepts has and an opaque one has not


class Space(torch.nn.Module):
    """From vectors (n, width) of a tower to components (n, C). Opaque ones are those of a linear map, which mean nothing.

    Args:
        relative: of each level's concepts take log q(c | text) - log p(c), as earlier versions did.
    """

    prior: torch.Tensor
    levels: torch.Tensor

    def __init__(self, concepts: Concepts, width: int, *, opaque: bool = False, relative: bool = False) -> None:
        super().__init__()
        count = len(concepts)
        self.opaque, self.relative = opaque, relative
        self.weight = torch.nn.Parameter(torch.randn(count, width) / math.sqrt(width))
        self.bias = torch.nn.Parameter(torch.zeros(count))
        self.scale = torch.nn.Parameter(torch.tensor(math.log(SCALE)))
        levels = torch.tensor(concepts.levels, device="cpu")
        depths = range(max(concepts.levels) + 1)
        if not opaque:
            self.threshold = torch.nn.Parameter(torch.zeros(count))
            self.stretch = torch.nn.Parameter(torch.zeros(count))
            self.sharpness = torch.nn.Parameter(torch.zeros(()))
            self.habit = torch.nn.Parameter(torch.zeros(count))
        self.register_buffer("prior", torch.zeros(count))
        self.register_buffer("levels", levels, persistent=False)
        self.groups = [torch.tensor([i for i, n in enumerate(concepts.levels) if n == d], device="cpu") for d in depths]
        self.steps = ops.edges(concepts.parents, concepts.levels)

    def start(self, counts: torch.Tensor) -> None:
        """Before training: how many examples each concept has, (C,)."""
        total = torch.zeros(len(self.groups)).index_add(0, self.levels, counts)
        self.prior.copy_((counts / total[self.levels]).log())

    def start_from(self, names: torch.Tensor, texts: torch.Tensor, tagged: Sequence[Sequence[int]]) -> None:
        """Before training: a concept is where its examples are, its name (C, width) and those of the `texts` (n, width) that
        `tagged` gives it, rows of concepts by text; apart from what all names and all texts share, and whitened, so that a text
        is as near to another one by its components as it is by its vector. 0 is where the mean text is. All are unit vectors.
        """
        centre = texts.mean(0)
        sums, counts = names - names.mean(0), torch.ones(len(names))
        if pairs := [(i, row) for i, rows in enumerate(tagged) for row in rows]:
            own, rows = torch.tensor(pairs).T
            sums = sums.index_add(0, rows, texts[own] - centre)
            counts = counts + torch.bincount(rows, minlength=len(names))
        left, sizes, right = torch.linalg.svd(sums / counts[:, None], full_matrices=False)
        whole = sizes > NOTHING + 1e-4 * sizes[0]
        if not whole.any():  # a single name
            return
        directions = left[:, whole] @ right[whole]
        with torch.no_grad():
            self.weight.copy_(directions / torch.linalg.vector_norm(directions, dim=1).mean())
            self.bias.copy_(-self.scale.exp() * (self.weight @ centre))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, C) float32: what speaks for each concept, a logit; or the components themselves where they are opaque."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
            return unit @ self.weight.T * self.scale.exp() + self.bias

    def components(self, raw: torch.Tensor, active: int) -> torch.Tensor:
        """(n, C) from `forward`: at most `active` are not 0, no parent is below its child. Not normalised."""
        if self.opaque:
            return raw
        told = ops.information(raw, self.prior, self.groups) if self.relative else raw
        values = torch.relu(told - self.threshold) * self.stretch.exp()
        return ops.largest(ops.lift(values, self.steps), active, self.levels)

    def likelihood(self, raw: torch.Tensor) -> torch.Tensor:
        """(n, C) log p(c | text) from `forward`, of each level's concepts a distribution."""
        told = raw * self.sharpness.exp() + self.habit
        return ops.information(told, self.prior, self.groups) + self.prior

    def tags(self, raw: torch.Tensor) -> torch.Tensor:
        """(n, C) in [0, 1] from `forward`: p(c | text) as the levels agree on it, see `hierarchy.agreed`."""
        return ops.agreed(self.likelihood(raw), self.steps).exp()


def earlier(shapes: Mapping[str, tuple[int, ...]], levels: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a space that was saved when there was one threshold a level and nothing else of a concept's own."""
    return {name: shape for name, shape in shapes.items() if name not in OWN} | {"threshold": (levels,)}


def renewed(tensors: Mapping[str, torch.Tensor], space: Space) -> dict[str, torch.Tensor]:
    """Tensors of `earlier` shapes as those of a `space` that gives the same vectors."""
    kept = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    if space.opaque:
        return kept
    nothing = {name: torch.zeros_like(getattr(space, name)) for name in OWN[1:]}
    return kept | nothing | {"threshold": tensors["threshold"][space.levels]}


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
        raw = space(self.reader(batch))
        if self.probabilities:
            return space.tags(raw)
        return unit(space.components(raw, self.active) * self.factors)
