"""A space with one component per concept: what a text's vector says of each of them, non-negative and sparse.

A component is the positive pointwise mutual information of text and concept, log p(c | text) - log p(c) where that is above a
threshold, so that a frequent concept does not count more for being frequent; p is a softmax over the concepts of a level, and
its prior is that of the tags. Then each parent is raised to its highest child, and the largest components stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from zoo.concepts import Concepts
from zoo.ops import concepts as ops

SCALE = 20.0  # of a cosine, at the start
NOTHING = 1e-12


class Space(torch.nn.Module):
    """From vectors (n, width) of a tower to components (n, C).

    Args:
        names: subword ids of each concept's name, whose mean embedding (dim,) gives the concept a direction.
        dim: components of such an embedding; or, without ids, of the vectors of names that `start` is given; None where names
            tell nothing.
        opaque: components are those of a linear map and mean nothing: the same parameters, without names and signs.
    """

    prior: torch.Tensor
    levels: torch.Tensor
    seen: torch.Tensor
    name_ids: torch.Tensor
    name_starts: torch.Tensor
    name_vectors: torch.Tensor

    def __init__(
        self,
        concepts: Concepts,
        width: int,
        dim: int | None,
        names: Sequence[Sequence[int]] | None = None,
        *,
        opaque: bool = False,
    ) -> None:
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
        self.register_buffer("seen", torch.ones(count, dtype=torch.bool), persistent=False)
        self.groups = [torch.tensor([i for i, n in enumerate(concepts.levels) if n == d], device="cpu") for d in depths]
        self.steps = ops.edges(concepts.parents, concepts.levels)
        self.named = None if dim is None else torch.nn.Linear(dim, width, bias=False)
        if names is not None:
            ends = torch.tensor([len(each) for each in names], device="cpu").cumsum(0)
            self.register_buffer("name_ids", torch.tensor([i for each in names for i in each]), persistent=False)
            self.register_buffer("name_starts", torch.cat([ends.new_zeros(1), ends[:-1]]), persistent=False)
        elif dim is not None:
            self.register_buffer("name_vectors", torch.zeros(count, dim))

    def start(self, counts: torch.Tensor, names: torch.Tensor | None = None) -> None:
        """Before training: how many examples each concept has (C,), and perhaps the vectors of names (C, width) by the same
        tower, which then are the concepts' directions to begin with."""
        total = torch.zeros(len(self.groups)).index_add(0, self.levels, counts + 1)
        with torch.no_grad():
            self.prior.copy_(((counts + 1) / total[self.levels]).log())
            self.seen.copy_(counts > 0)
            if self.named is not None:
                self.weight.zero_()
                if names is not None:
                    self.name_vectors.copy_(names)
                    torch.nn.init.eye_(self.named.weight)

    def directions(self, embedding: torch.Tensor | None) -> torch.Tensor:
        """(C, width): of each concept its own, and what its name adds; `embedding` (subwords, dim) where names are subwords. A
        concept without an example is where its name is: that no row has it as a tag does not push it away."""
        if self.named is None:
            return self.weight
        if embedding is None:
            told = self.name_vectors
        else:
            told = torch.nn.functional.embedding_bag(self.name_ids, embedding, self.name_starts, mode="mean")
        return self.weight * self.seen[:, None] + self.named(told)

    def gain(self, vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """(n, C) float32: pointwise mutual information, or the components themselves where they are opaque."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
            raw = unit @ directions.T * self.scale.exp() + self.bias * self.seen
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
    """Tokens to unit vectors (n, C), or to p(c | text), with everything fixed that does not depend on the text.

    Args:
        factors: (C,) by which components are multiplied.
    """

    directions: torch.Tensor
    factors: torch.Tensor

    def __init__(
        self,
        reader: torch.nn.Module,
        space: Space,
        directions: torch.Tensor,
        active: int,
        factors: torch.Tensor,
        *,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        self.reader, self.active, self.probabilities = reader, active, probabilities
        self._space = [space]  # not a part: its parameters stay float32
        self.register_buffer("directions", directions.detach().clone())
        self.register_buffer("factors", factors)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, tokens) to (batch, C) float32."""
        space = self._space[0]
        gain = space.gain(self.reader(batch), self.directions)
        if self.probabilities:
            return (gain + space.prior).exp()
        return unit(space.components(gain, self.active) * self.factors)
