"""New classes for a classifier with fixed class vectors: choose their vectors, and change the projection.

The projection is linear in the backbone's features. The change should send new examples to their vectors, and should alter the
outputs for old inputs as little as possible. This is a regularised least-squares problem, and old inputs enter it through
their second moments alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment

from zoo.core.errors import ZooError
from zoo.data import kinds
from zoo.families.equiangular import basis_vectors
from zoo.families.equiangular.classifier import ClassifierEncoder

DEFAULT_KEEP = 2.0
KEEP_CANDIDATES: tuple[float, ...] = tuple(2.0 ** (k / 2) for k in range(16, -5, -1))  # 256 to 0.25
RIDGE = 1e-3  # weight of the regulariser, as a multiple of the mean second moment

HeldOut = tuple[Iterable[Any], Sequence[str | int]]
"""Inputs of old classes that training has not seen, and the class of each input."""


def compute_second_moments(features: torch.Tensor) -> torch.Tensor:
    """Return the mean outer product (width + 1, width + 1) float32 of features (n, width) with a 1 appended."""
    extended = _append_one(features)
    return (extended.T @ extended / len(extended)).float()


def add_classes(
    encoder: ClassifierEncoder,
    names: Sequence[str | int],
    examples: Sequence[Sequence[Any]],
    keep: float | None,
    held_out: HeldOut | None,
    max_accuracy_drop: float,
) -> float:
    """Add classes to `encoder`, and return the `keep` that was used; see `Encoder.add_classes`."""
    basis, second_moments = _check_encoder(encoder)
    free = _check_names(encoder, basis, names, examples)
    _check_options(keep, held_out, max_accuracy_drop)
    validation = None if held_out is None else _compute_held_out_features(encoder, held_out)
    features = [encoder.compute_features(list(inputs)) for inputs in examples]
    basis = encoder.basis = basis.to(torch.device("cpu"))
    new_vector_ids = _assign_free_vectors(encoder, basis, features, free)
    vectors = basis.get_rows()[[*encoder.vector_ids, *new_vector_ids]]
    projection = _get_projection(encoder)
    class_count = len(encoder.classes)
    change = _ProjectionChange(features, vectors[class_count:], projection, second_moments)
    if validation is not None:
        keep = _choose_keep(change, vectors, *validation, max_accuracy_drop)
    keep = DEFAULT_KEEP if keep is None else keep
    weight = change.solve(keep * class_count)
    linear: Any = encoder.projection
    with torch.no_grad():
        linear.weight.copy_(weight[:, :-1])
        linear.bias.copy_(weight[:, -1])
    new_moments = sum(compute_second_moments(part) for part in features)
    encoder.second_moments = ((second_moments * class_count + new_moments) / (class_count + len(names))).float()
    encoder.classes = [*encoder.classes, *names]
    encoder.vector_ids = [*encoder.vector_ids, *new_vector_ids]
    return keep


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_encoder(encoder: ClassifierEncoder) -> tuple[basis_vectors.Basis, torch.Tensor]:
    """Return basis and second moments. Raise ZooError for an encoder without them."""
    if encoder.basis is None or encoder.second_moments is None:
        raise ZooError("classes can be added to a trained encoder with head: equiangular alone")
    return encoder.basis, encoder.second_moments


def _check_names(
    encoder: ClassifierEncoder,
    basis: basis_vectors.Basis,
    names: Sequence[str | int],
    examples: Sequence[Sequence[Any]],
) -> list[int]:
    """Return the rows of the basis that no class uses. Raise ZooError for names or examples that cannot be added."""
    if len(names) != len(examples) or isinstance(examples, str) or not all(len(inputs) for inputs in examples):
        raise ZooError(
            f"{len(names)} names and {len(examples)} lists of examples: each new class needs a list with at least one example"
        )
    existing = [name for name in names if name in encoder.classes]
    if existing:
        raise ZooError(f"there is already a class {existing[0]!r}: choose another name")
    if len(set(names)) < len(names):
        raise ZooError("two new classes have the same name: give each its own")
    name_type = type(encoder.classes[0])
    if not all(isinstance(name, name_type) for name in names):
        raise ZooError(f"names of this encoder's classes are of type {name_type.__name__}, like {encoder.classes[0]!r}")
    free = sorted(set(range(basis.count)) - set(encoder.vector_ids))
    if len(free) < len(names):
        raise ZooError(
            f"{len(names)} new classes, but only {len(free)} of {basis.count} vectors are free; train with a larger `capacity`"
        )
    return free


def _check_options(keep: float | None, held_out: HeldOut | None, max_accuracy_drop: float) -> None:
    if keep is not None and not 0 < keep < math.inf:
        raise ZooError(f"keep: {keep} must be a finite number above 0")
    if keep is not None and held_out is not None:
        raise ZooError("pass either `keep` or `held_out`, not both: `held_out` is used to choose `keep`")
    if not 0 <= max_accuracy_drop <= 1:
        raise ZooError(f"max_accuracy_drop: {max_accuracy_drop} must be a share, from 0 to 1")


def _compute_held_out_features(encoder: ClassifierEncoder, held_out: HeldOut) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features (n, width + 1) float64 with a 1 appended, and the class ids (n,), of held-out inputs."""
    inputs, labels = list(held_out[0]), kinds.match_labels(held_out[1], encoder.classes)
    positions = {name: position for position, name in enumerate(encoder.classes)}
    unknown = [label for label in labels if label not in positions]
    if unknown:
        raise ZooError(f"held_out: {unknown[0]!r} is not a class of this encoder; give inputs of its classes only")
    if not inputs or len(inputs) != len(labels):
        raise ZooError(f"held_out: {len(inputs)} inputs and {len(labels)} labels; give one label for each input")
    class_ids = torch.tensor([positions[label] for label in labels])
    return _append_one(encoder.compute_features(inputs)), class_ids


# -- vectors and projection --------------------------------------------------------------------------------------------


def _assign_free_vectors(
    encoder: ClassifierEncoder, basis: basis_vectors.Basis, features: list[torch.Tensor], free: list[int]
) -> list[int]:
    """Choose a free vector for each class. The sum of its cosines with the classes' mean embeddings is the largest."""
    device = next(encoder.projection.parameters()).device
    with torch.inference_mode():
        outputs = [encoder.projection(part.to(device)).cpu() for part in features]
        means = torch.stack([torch.nn.functional.normalize(part, dim=1).mean(0) for part in outputs])
        cosines = basis.compute_cosines(means, basis.count)[:, free]
    _, columns = linear_sum_assignment(-cosines.numpy())
    return [free[int(column)] for column in columns]


class _ProjectionChange:
    """The least-squares problem of a changed projection W + Δ.

    `solve(keep)` minimises Σ_c mean‖(W + Δ)z − r·w_c‖² + keep·E‖Δz_old‖² + ridge·‖Δ‖². Here z are the features of new class
    c, w_c is its vector, and r is the length of the outputs for old inputs.

    Args:
        features: (n, width) float32 for each new class.
        targets: the vectors (new classes, dim) of the new classes.
        projection: W (dim, width + 1) float64, with the bias as the last column.
        second_moments: (width + 1, width + 1) of old inputs.
    """

    def __init__(
        self,
        features: list[torch.Tensor],
        targets: torch.Tensor,
        projection: torch.Tensor,
        second_moments: torch.Tensor,
    ) -> None:
        self.features, self.targets, self.projection = features, targets, projection
        self.second_moments = second_moments.double()

    def solve(self, keep: float) -> torch.Tensor:
        """Return W + Δ as (dim, width + 1) float64."""
        weight, moments = self.projection, self.second_moments
        length = (weight @ moments @ weight.T).trace().sqrt()
        left = keep * moments + RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
        right = torch.zeros_like(weight)
        for part, target in zip(self.features, self.targets, strict=True):
            z = _append_one(part)
            right += (length * target.double()[:, None] - weight @ z.T) @ z / len(z)
            left = left + z.T @ z / len(z)
        changed: torch.Tensor = weight + torch.linalg.solve(left, right.T).T
        return changed


def _choose_keep(
    change: _ProjectionChange,
    vectors: torch.Tensor,
    features: torch.Tensor,
    class_ids: torch.Tensor,
    max_accuracy_drop: float,
) -> float:
    """Choose the smallest `keep` that costs held-out inputs little accuracy.

    KEEP_CANDIDATES are tried from large to small, up to the first one that lowers the accuracy by more than
    `max_accuracy_drop`. The result is the candidate before it, or the largest one if that already costs more.

    Args:
        vectors: (classes, dim), those of old classes first.
        features: (n, width + 1) float64 of held-out inputs, and class_ids: (n,), their old classes.
    """
    class_count = len(vectors) - len(change.targets)

    def count_correct(projection: torch.Tensor, candidates: torch.Tensor) -> int:
        embeddings = torch.nn.functional.normalize(features @ projection.T, dim=1)
        return int(((embeddings @ candidates.double().T).argmax(1) == class_ids).sum())

    correct_before, chosen = count_correct(change.projection, vectors[:class_count]), KEEP_CANDIDATES[0]
    for keep in KEEP_CANDIDATES:
        correct_after = count_correct(change.solve(keep * class_count), vectors)
        if correct_before - correct_after > max_accuracy_drop * len(class_ids):
            break
        chosen = keep
    return chosen


def _get_projection(encoder: ClassifierEncoder) -> torch.Tensor:
    """Return the projection as (dim, width + 1) float64, with the bias as the last column."""
    linear: Any = encoder.projection
    weight: torch.Tensor = torch.cat([linear.weight.data, linear.bias.data[:, None]], dim=1).cpu().double()
    return weight


def _append_one(features: torch.Tensor) -> torch.Tensor:
    """Return features (n, width) as (n, width + 1) float64 with a 1 at the end."""
    return torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
