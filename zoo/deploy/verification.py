"""Compare a written folder with the encoder that it came from, opened by the runtime that users open it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from zoo.core.errors import ArtefactError, ZooError
from zoo.encoder import Encoder
from zoo.graph import Graph
from zoo.runtime.model import Model, Verification, compare

BATCHES = (1, 7)
"""Batch sizes that inputs are encoded in, beside the runtime's own."""
ROLE_TEXTS = 20
LOWEST_EQUAL = 0.999
"""Share of codes of latents that must be equal. A value in the middle of two levels may fall to either."""


@dataclass(frozen=True)
class Deviation:
    """How far vectors of a graph are from the encoder's at fp32.

    Attributes:
        inputs: how many were compared, of many lengths and in several batch sizes.
        mean_cosine: between the two vectors of an input, in batches of the runtime.
        lowest_cosine, largest_difference: in all batch sizes and roles.
    """

    inputs: int
    mean_cosine: float
    lowest_cosine: float
    largest_difference: float

    @property
    def loss(self) -> float:
        """1 minus the mean cosine."""
        return 1 - self.mean_cosine

    def include(self, found: Verification) -> Deviation:
        """Return the deviation with that of the canaries, which must not look worse than the folder says."""
        return replace(
            self,
            mean_cosine=min(self.mean_cosine, found.mean_cosine),
            lowest_cosine=min(self.lowest_cosine, found.lowest_cosine),
            largest_difference=max(self.largest_difference, found.largest_difference),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def check(encoder: Encoder, model: Model, graph: Graph, inputs: Sequence[Any], max_loss: float) -> Deviation:
    """Compare vectors of the same inputs, at several batch sizes and for each role. Return the deviation.

    Args:
        encoder: the view that was exported.
        model: the folder, opened.
        graph: the graph that was written.
        inputs: texts, images or vectors.
        max_loss: the largest loss in mean cosine for a graph that is not of fp32.

    Raises ArtefactError if tokens differ, or vectors of an fp32 graph; ZooError if the loss is above `max_loss`.
    """
    kinds: tuple[str | None, ...] = (None, "query", "document") if model.has_roles else (None,)
    if graph.modality == "text" and len(graph.modules) == 1:
        _check_tokens(encoder, model, [text for text in inputs if isinstance(text, str)])
    exact = np.asarray(encoder.encode(list(inputs)))
    rounds = [compare(model.encode(inputs), exact, model.description)]
    for size in BATCHES:
        parts = [model.encode(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        rounds.append(compare(np.concatenate(parts), exact, model.description))
    for role in kinds[1:]:
        texts = list(inputs[:ROLE_TEXTS])
        vectors = model.encode(texts, prompt_name=role)
        rounds.append(compare(vectors, np.asarray(encoder.encode(texts, prompt_name=role)), model.description))
    by_token = [_compare_tokens(encoder, model, inputs, role) for role in kinds if graph.token_sets is not None]
    rounds += by_token
    deviation = Deviation(
        len(inputs),
        min(found.mean_cosine for found in (rounds[0], *by_token)),
        min(found.lowest_cosine for found in rounds),
        max(found.largest_difference for found in rounds),
    )
    if graph.dtype != "float32" and graph.similarity != "hamming":
        return _check_codes(deviation, model.encode(inputs), exact)
    if model.description.precision == "fp32":
        _require_exact(rounds, model)
    elif deviation.loss > max_loss:
        raise ZooError(
            f"the mean cosine to the exact vectors is {deviation.mean_cosine:.4f}, so {deviation.loss:.4f} is lost, more than "
            f"--max-loss {max_loss:g}; nothing was written: raise --max-loss, give --texts like yours, or leave --int8 out"
        )
    return deviation


def compare_encoders(original: Encoder, view: Encoder, inputs: Sequence[Any]) -> tuple[float, float]:
    """Return the mean and the lowest cosine between the vectors of two encoders of the same width."""
    left, right = (np.asarray(encoder.encode(list(inputs)), np.float64) for encoder in (original, view))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.divide((left * right).sum(axis=1), norms, out=np.ones(len(left)), where=norms > 0)
    return float(cosines.mean()), float(cosines.min())


def _compare_tokens(encoder: Encoder, model: Model, inputs: Sequence[Any], role: str | None) -> Verification:
    """Compare the vectors of all tokens. Raises ArtefactError if other tokens count."""
    tokens, offsets = model.encode_tokens(inputs, prompt_name=role)
    exact, expected = encoder.encode_tokens(inputs, role)
    if not np.array_equal(offsets, expected):
        raise ArtefactError(
            f"other tokens count in the graph than in the model, for a {role or 'text without a role'}; nothing was written"
        )
    return compare(tokens, exact, model.description)


def _check_tokens(encoder: Encoder, model: Model, texts: Sequence[str]) -> None:
    expected = encoder.list_token_ids(texts) or []
    for text, left, right in zip(texts, expected, model.tokenize(texts), strict=False):
        if list(left) != list(right):
            raise ArtefactError(
                f"the exported tokenizer turns {text[:40]!r} into other tokens than the model's own, which has a setting that "
                "its file does not hold; nothing was written"
            )


def _require_exact(rounds: Sequence[Verification], model: Model) -> None:
    for found in rounds:
        if not found.is_same and model.description.similarity == "hamming":
            raise ArtefactError(f"only {found.mean_cosine:.2%} of the bits are those of the model; nothing was written")
        if not found.is_same:
            raise ArtefactError(
                f"the graph gives other vectors than the model: a component differs by {found.largest_difference:.2g}, and the "
                f"lowest cosine is {found.lowest_cosine:.4f}; the family {model.description.family} cannot be exported with this "
                "backbone; nothing was written"
            )


def _check_codes(deviation: Deviation, vectors: Any, exact: Any) -> Deviation:
    """Return the deviation of codes of latents, whose cosine is the share of equal ones."""
    equal = (vectors == exact).mean(axis=1)
    if equal.mean() < LOWEST_EQUAL:
        raise ArtefactError(f"only {equal.mean():.1%} of the codes are those of the model; nothing was written")
    return Deviation(deviation.inputs, float(equal.mean()), float(equal.min()), deviation.largest_difference)
