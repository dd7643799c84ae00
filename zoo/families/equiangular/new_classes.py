"""New classes for a classifier whose class vectors are fixed: which free vectors they get, and how the map to them changes.

The map is linear on the backbone's features, so the change that sends new examples to their vectors, and alters least what the
map makes of old inputs, is a regularised least-squares problem: old inputs enter through their second moments alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch

    from zoo.families.equiangular.classifier import ClassifierEncoder
else:
    torch = lazy("torch")

KEEP = 2.0
KEEPS = tuple(2.0 ** (k / 2) for k in range(16, -5, -1))
RIDGE = 1e-3  # of the mean second moment


def moments(features: torch.Tensor) -> torch.Tensor:
    """Mean outer product (width + 1, width + 1) float32 of (n, width) features with a 1 at the end."""
    whole = _with_one(features)
    return (whole.T @ whole / len(whole)).float()


def add(
    encoder: ClassifierEncoder,
    names: Sequence[str | int],
    examples: Sequence[Sequence[Any]],
    keep: float | None,
    held: tuple[Iterable[Any], Sequence[str | int]] | None,
    lose: float,
) -> float:
    """See `add_classes` of the family."""
    basis, old = encoder.basis, encoder.moments
    if basis is None or old is None:
        raise ZooError("classes can be added to a trained encoder with head: equiangular alone")
    if len(names) != len(examples) or isinstance(examples, str) or not all(len(each) for each in examples):
        raise ZooError(
            f"{len(names)} names and {len(examples)} lists of examples: each new class needs a list with at least one"
        )
    taken = [name for name in names if name in encoder.classes]
    if taken or len(set(names)) < len(names):
        raise ZooError(f"there is already a class {taken[0]!r}" if taken else "two new classes have one name")
    if not all(isinstance(name, type(encoder.classes[0])) for name in names):
        raise ZooError(f"a class is called by a {type(encoder.classes[0]).__name__} here, as {encoder.classes[0]!r} is")
    free = sorted(set(range(basis.count)) - set(encoder.places))
    if len(free) < len(names):
        raise ZooError(
            f"{len(names)} new classes, but only {len(free)} of {basis.count} vectors are free; train with a larger `capacity`"
        )
    if keep is not None and not 0 < keep < float("inf"):
        raise ZooError(f"keep: {keep} must be above 0")
    if keep is not None and held is not None:
        raise ZooError("keep and held: one says what the other finds")
    if not 0 <= lose <= 1:
        raise ZooError(f"lose: {lose} must be a share, from 0 to 1")
    known = None if held is None else _known(encoder, held)
    features = [encoder.features(list(each)) for each in examples]
    basis = encoder.basis = basis.to(torch.device("cpu"))
    places = _nearest(encoder, features, free)
    vectors = basis.rows()[[*encoder.places, *places]]
    before = _map(encoder)
    if known is not None:
        keep = _largest_change(encoder, features, vectors, before, known, lose)
    keep = KEEP if keep is None else keep
    weight = _turned(features, vectors[len(encoder.places) :], before, old, keep * len(encoder.classes))
    linear: Any = encoder.project
    with torch.no_grad():
        linear.weight.copy_(weight[:, :-1])
        linear.bias.copy_(weight[:, -1])
    classes = len(encoder.classes)
    new = sum(moments(each) for each in features)
    encoder.moments = ((old * classes + new) / (classes + len(names))).float()
    encoder.classes = [*encoder.classes, *names]
    encoder.places = [*encoder.places, *places]
    return keep


def _nearest(encoder: ClassifierEncoder, features: list[torch.Tensor], free: list[int]) -> list[int]:
    """A free vector for each class, such that the sum of cosines to the classes' mean embeddings is largest."""
    from scipy.optimize import linear_sum_assignment

    assert encoder.basis is not None  # `add` has looked
    device = next(encoder.project.parameters()).device
    with torch.inference_mode():
        ends = [encoder.project(each.to(device)).cpu() for each in features]
        means = torch.stack([torch.nn.functional.normalize(each, dim=1).mean(0) for each in ends])
        cosines = encoder.basis.cosines(means, encoder.basis.count)[:, free]
    _, chosen = linear_sum_assignment(-cosines.numpy())
    return [free[int(place)] for place in chosen]


def _known(
    encoder: ClassifierEncoder, held: tuple[Iterable[Any], Sequence[str | int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with a 1 at the end and places of the classes of `held`."""
    inputs, labels = list(held[0]), list(held[1])
    place = {name: k for k, name in enumerate(encoder.classes)}
    strange = [label for label in labels if label not in place]
    if strange or not inputs or len(inputs) != len(labels):
        what = f"{strange[0]!r} is no class yet" if strange else f"{len(inputs)} inputs and {len(labels)} labels"
        raise ZooError(f"held: {what}; it takes inputs of classes there are, and the class of each")
    return _with_one(encoder.features(inputs)), torch.tensor([place[label] for label in labels])


def _largest_change(
    encoder: ClassifierEncoder,
    features: list[torch.Tensor],
    vectors: torch.Tensor,
    before: torch.Tensor,
    held: tuple[torch.Tensor, torch.Tensor],
    lose: float,
) -> float:
    """The last of KEEPS, from large to small, before the share of held inputs that are right falls by more than `lose`; the first
    where even that one costs more."""
    assert encoder.moments is not None  # `add` has looked
    z, gold = held
    classes = len(encoder.classes)

    def right(weight: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.normalize(z @ weight.T, dim=1) @ among.double().T).argmax(1) == gold

    was, found = right(before, vectors[:classes]), KEEPS[0]
    for keep in KEEPS:
        weight = _turned(features, vectors[classes:], before, encoder.moments, keep * classes)
        now = right(weight, vectors)
        if int(was.sum() - now.sum()) > lose * len(gold):
            break
        found = keep
    return found


def _map(encoder: ClassifierEncoder) -> torch.Tensor:
    """The map to components (dim, width + 1) float64, its offset last."""
    linear: Any = encoder.project
    return torch.cat([linear.weight.data, linear.bias.data[:, None]], dim=1).cpu().double()


def _turned(
    features: list[torch.Tensor], targets: torch.Tensor, weight: torch.Tensor, old: torch.Tensor, keep: float
) -> torch.Tensor:
    """The map W + Δ for the Δ that minimises Σ_c mean‖(W + Δ)z - r·w_c‖² + keep·E‖Δz_old‖² + ridge·‖Δ‖², where r is the length of
    what the map makes of old inputs."""
    moment = old.double()
    length = (weight @ moment @ weight.T).trace().sqrt()
    left = keep * moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    right = torch.zeros_like(weight)
    for each, target in zip(features, targets, strict=True):
        z = _with_one(each).double()
        right += (length * target.double()[:, None] - weight @ z.T) @ z / len(z)
        left = left + z.T @ z / len(z)
    return weight + torch.linalg.solve(left, right.T).T


def _with_one(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
