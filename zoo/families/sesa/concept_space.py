"""The concept space: it turns a tower's vector into one non-negative, sparse component per concept.

The components of a text are computed in four steps:

1. A linear map gives one logit per concept, which is 0 for the average text.
2. A component is relu(logit − threshold) × gain. Each concept has its own threshold and gain, which the ranking trains.
3. Each parent is raised to its highest child.
4. The largest components stay, and all others become 0.

The probability of a tag, p(c | text), uses the same logits with a bias and an inverse temperature of its own, and the prior
p(c) of the tags. Components leave the prior out: how often people use a tag must not decide how much it counts in a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zoo.families.sesa import hierarchy
from zoo.families.sesa.concepts import Concepts

INITIAL_SCALE = 20.0  # of a cosine
MIN_NORM = 1e-12
MIN_RELATIVE_SIZE = 1e-4  # a direction with a smaller share of the largest singular value is noise
TENSOR_NAMES = {
    "log_prior": "prior",
    "log_scale": "scale",
    "log_gain": "stretch",
    "log_inverse_temperature": "sharpness",
    "tag_bias": "habit",
}
"""Tensors of `ConceptSpace` that have another name in a state dict and therefore in files, which must stay readable."""
CONCEPT_TENSORS = ("threshold", "stretch", "sharpness", "habit")
"""Tensors, by their name in files, that an opaque space does not have."""


class ConceptSpace(torch.nn.Module):
    """Turns vectors (n, width) of a tower into components (n, C).

    Args:
        concepts: the C concepts.
        width: components of a tower's vector.
        opaque: whether components are those of a plain linear map and have no meaning.
        relative: whether components are based on log p(c | text) − log p(c) instead of logits, as in early versions.

    Attributes:
        log_prior: (C,) log p(c); 0 until `set_prior`.
        levels: (C,) level of each concept.
        level_concepts: columns of the concepts of each level.
        edges: see `hierarchy.Edges`.
    """

    log_prior: torch.Tensor
    levels: torch.Tensor

    def __init__(self, concepts: Concepts, width: int, *, opaque: bool = False, relative: bool = False) -> None:
        super().__init__()
        count = len(concepts)
        self.is_opaque, self.is_relative = opaque, relative
        self.weight = torch.nn.Parameter(torch.randn(count, width) / math.sqrt(width))
        self.bias = torch.nn.Parameter(torch.zeros(count))
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        if not opaque:
            self.threshold = torch.nn.Parameter(torch.zeros(count))
            self.log_gain = torch.nn.Parameter(torch.zeros(count))
            self.log_inverse_temperature = torch.nn.Parameter(torch.zeros(()))
            self.tag_bias = torch.nn.Parameter(torch.zeros(count))
        # The device is given because a shell of this module is built on the meta device, and these are no weights.
        levels = torch.tensor(concepts.levels, device="cpu")
        self.register_buffer("log_prior", torch.zeros(count))
        self.register_buffer("levels", levels, persistent=False)
        self.level_concepts = [(levels == level).nonzero()[:, 0] for level in range(max(concepts.levels) + 1)]
        self.edges = hierarchy.build_edges(concepts.parents, concepts.levels)
        hooks: Any = self  # torch has no types for these two methods
        hooks.register_state_dict_post_hook(_rename_saved_tensors)
        hooks.register_load_state_dict_pre_hook(_rename_loaded_tensors)

    def set_prior(self, counts: torch.Tensor) -> None:
        """Set the prior from the number of examples of each concept, (C,), before training.

        The prior is a distribution over the concepts of each level.
        """
        totals = torch.zeros(len(self.level_concepts)).index_add(0, self.levels, counts)
        self.log_prior.copy_((counts / totals[self.levels]).log())

    def initialise_weights(
        self, names: torch.Tensor, texts: torch.Tensor, concepts_of_texts: Sequence[Sequence[int]]
    ) -> None:
        """Point each concept's weights at its examples, before training.

        The examples of a concept are its name and the texts that are tagged with it. Both are centred first: the mean of
        all names, or of all texts, is subtracted. The weights are whitened, so that two texts are as similar by their
        components as by their vectors. The bias makes the logit of the mean text 0.

        Args:
            names: (C, width) unit vectors of the concepts' names.
            texts: (n, width) unit vectors of texts.
            concepts_of_texts: rows of the concepts of each text; an empty sequence for a text without tags.
        """
        centre = texts.mean(0)
        sums, counts = names - names.mean(0), torch.ones(len(names))
        pairs = [(text, concept) for text, concepts in enumerate(concepts_of_texts) for concept in concepts]
        if pairs:
            text_rows, concept_rows = torch.tensor(pairs).T
            sums = sums.index_add(0, concept_rows, texts[text_rows] - centre)
            counts = counts + torch.bincount(concept_rows, minlength=len(names))
        left, sizes, right = torch.linalg.svd(sums / counts[:, None], full_matrices=False)
        is_direction = sizes > MIN_NORM + MIN_RELATIVE_SIZE * sizes[0]
        if not is_direction.any():  # a single concept: its centred name is 0
            return
        directions = left[:, is_direction] @ right[is_direction]
        with torch.no_grad():
            self.weight.copy_(directions / torch.linalg.vector_norm(directions, dim=1).mean())
            self.bias.copy_(-self.log_scale.exp() * (self.weight @ centre))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Compute logits (n, C) float32 from vectors (n, width). In an opaque space these are the components."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit_vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
            return unit_vectors @ self.weight.T * self.log_scale.exp() + self.bias

    def compute_components(self, logits: torch.Tensor, max_active: int) -> torch.Tensor:
        """Compute components (n, C) from the logits of `forward`. They are not normalised.

        At most `max_active` are not 0, and no parent is below its child. In an opaque space, return the logits.
        """
        if self.is_opaque:
            return logits
        evidence = hierarchy.compute_pmi(logits, self.log_prior, self.level_concepts) if self.is_relative else logits
        values = torch.relu(evidence - self.threshold) * self.log_gain.exp()
        return hierarchy.keep_largest(hierarchy.raise_parents(values, self.edges), max_active, self.levels)

    def compute_log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Compute log p(c | text), (n, C), from the logits of `forward`: a distribution over each level's concepts."""
        tag_logits = logits * self.log_inverse_temperature.exp() + self.tag_bias
        return hierarchy.compute_pmi(tag_logits, self.log_prior, self.level_concepts) + self.log_prior

    def compute_tag_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Compute p(c | text), (n, C) in [0, 1], from the logits of `forward`; see `hierarchy.reconcile_levels`."""
        return hierarchy.reconcile_levels(self.compute_log_probabilities(logits), self.edges).exp()


def _rename_saved_tensors(space: torch.nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for attribute, name in TENSOR_NAMES.items():
        if prefix + attribute in state:
            state[prefix + name] = state.pop(prefix + attribute)


def _rename_loaded_tensors(space: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for attribute, name in TENSOR_NAMES.items():
        if prefix + name in state:
            state[prefix + attribute] = state.pop(prefix + name)


def list_early_shapes(shapes: Mapping[str, tuple[int, ...]], level_count: int) -> dict[str, tuple[int, ...]]:
    """List the tensor shapes of an early version's space: one threshold per level, and no other concept tensor."""
    common = {name: shape for name, shape in shapes.items() if name not in CONCEPT_TENSORS}
    return common | {"threshold": (level_count,)}


def convert_early_tensors(tensors: Mapping[str, torch.Tensor], space: ConceptSpace) -> dict[str, torch.Tensor]:
    """Convert tensors with `list_early_shapes` to those of a `space` that gives the same vectors."""
    common = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    if space.is_opaque:
        return common
    neutral = {
        name: torch.zeros_like(tensor)
        for name, tensor in space.state_dict().items()
        if name in CONCEPT_TENSORS and name != "threshold"
    }
    return common | neutral | {"threshold": tensors["threshold"][space.levels]}


def normalize_rows(components: torch.Tensor) -> torch.Tensor:
    """Scale each row to length one. A row of zeros stays."""
    norms: torch.Tensor = torch.linalg.vector_norm(components, dim=-1, keepdim=True)
    return components / norms.clamp(min=MIN_NORM)


def append_unnamed(concepts: torch.Tensor, vectors: torch.Tensor, share: float) -> torch.Tensor:
    """Append vectors to unit concept vectors, so that cosines are averaged with weights 1 − share and share.

    Args:
        concepts: (n, C). A text without any concept has a row of zeros; its vector is then that of the text alone.
        vectors: (n, width), of any length.
        share: the part of a score that `vectors` give. With 0, return `concepts`.
    """
    if not share:
        return concepts
    parts = [concepts * (1 - share) ** 0.5, normalize_rows(vectors.float()) * share**0.5]
    return normalize_rows(torch.cat(parts, dim=1))


class ConceptTower(torch.nn.Module):
    """A tower and the concept space as one module: it turns tokens into unit vectors (n, C + unnamed components).

    Args:
        tower: module that turns a batch of tokens into vectors.
        space: the concept space.
        max_active: largest number of components that are not 0.
        factors: (C,) by which components are multiplied before they are normalised.
        unnamed_share, unnamed_width: see `append_unnamed`.
        probabilities: whether `forward` returns p(c | text).
    """

    factors: torch.Tensor

    def __init__(
        self,
        tower: torch.nn.Module,
        space: ConceptSpace,
        max_active: int,
        factors: torch.Tensor,
        *,
        unnamed_share: float = 0.0,
        unnamed_width: int = 0,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        self.unnamed_share, self.unnamed_width = unnamed_share, unnamed_width
        self.tower, self.max_active, self.returns_probabilities = tower, max_active, probabilities
        self._space = [space]  # a list hides the space from torch, so that its parameters stay float32 in bf16 and fp16
        self.register_buffer("factors", factors)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Turn a batch of tokens (n, tokens) into float32, (n, C) for probabilities."""
        space = self._space[0]
        vectors = self.tower(batch)
        logits = space(vectors)
        if self.returns_probabilities:
            return space.compute_tag_probabilities(logits)
        concepts = normalize_rows(space.compute_components(logits, self.max_active) * self.factors)
        return append_unnamed(concepts, vectors[:, : self.unnamed_width], self.unnamed_share)
