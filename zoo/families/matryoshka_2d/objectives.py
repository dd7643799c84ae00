"""The 2D Matryoshka objective (Li et al., arXiv 2402.14776, section 3; ESE's weights from its v2), and the elastic one,
which trains every layer through a head of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.core.lazy import lazy
from zoo.ops import losses

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    F = lazy("torch.nn.functional")

SentenceLoss = Callable[["torch.Tensor"], "torch.Tensor"]
"""Any sentence loss: (columns, rows, d) to a scalar, e.g. columns = anchor, positive, hard negative."""


def shallow_weights(layers: Sequence[int], depth: int) -> dict[int, float]:
    """Weight of each shallow layer's term. One sampled layer has weight 1 (2DMSE); all of them at once have
    1/(1 + ln(depth - n)), nearest the top most, as ESE weights what precedes the last layer, scaled to sum to 1."""
    raw = {n: 1.0 / (1.0 + math.log(depth - n)) for n in layers}
    return {n: weight / sum(raw.values()) for n, weight in raw.items()}


def objective(
    deep: torch.Tensor,
    shallow: Mapping[int, torch.Tensor],
    width: int,
    loss: SentenceLoss,
    weights: Mapping[int, float],
    *,
    deep_weight: float = 1.0,
    shallow_weight: float = 1.0,
    align: float = 1.0,
    detach: bool = True,
    temperature: float = 1.0,
) -> torch.Tensor:
    """L = λt·ℓ(X_N) + λs·ℓ(X_n) + λt·ℓ(X_N[:m]) + λs·ℓ(X_n[:m]) + T²·KL(softmax(X_N/T) ‖ softmax(X_n/T)).

    Args:
        deep: pooled vectors X_N of the last layer, before normalisation, (columns, rows, d).
        shallow: the same of shallow layers n; the paper has one.
        width: m, shared by all layers.
        weights: factor of each shallow layer's terms.
        align: factor of the KL term; 0 leaves it out.
        detach: whether the KL term leaves its teacher X_N alone; the paper does not detach.
    """
    total = deep_weight * (loss(deep) + loss(deep[..., :width]))
    target = (deep.detach() if detach else deep).flatten(0, 1)
    for n, vectors in shallow.items():
        term = shallow_weight * (loss(vectors) + loss(vectors[..., :width]))
        if align:
            term = term + align * losses.compute_alignment_loss(target, vectors.flatten(0, 1), temperature)
        total = total + weights[n] * term
    return total


def elastic(
    deep: torch.Tensor,
    shallow: Mapping[int, torch.Tensor],
    widths: Sequence[int],
    loss: SentenceLoss,
    *,
    narrow: float = 0.5,
    task: float = 0.3,
    follow: float = 1.0,
) -> torch.Tensor:
    """ℓ(E_N) + narrow·mean_m ℓ(E_N[:m]) + Σ_n ( task·mean_m ℓ(E_n[:m]) + follow·mean(1 - cos(E_n, sg(E_N))) ).

    Every shallow layer learns the task at every width and follows the last layer of the same step, which it cannot pull
    along (sg stops the gradient), so that the whole encoder trains as it would alone.

    Args:
        deep, shallow: embeddings E of the last and of the shallow layers after their heads, (columns, rows, d).
        widths: every m below d; the full width always counts.
    """
    target = deep.detach()
    full = deep.shape[-1]
    total = loss(deep) + narrow * _mean([loss(deep[..., :m]) for m in widths if m < full])
    for vectors in shallow.values():
        total = total + task * _mean([loss(vectors[..., :m]) for m in (*(w for w in widths if w < full), full)])
        total = total + follow * (1 - F.cosine_similarity(vectors, target, dim=-1)).mean()
    return total


def _mean(terms: list[torch.Tensor]) -> torch.Tensor | float:
    return sum(terms[1:], start=terms[0]) / len(terms) if terms else 0.0


def backflow(vectors: torch.Tensor, share: float) -> torch.Tensor:
    """The same values, with `share` of their gradient."""
    return vectors * share + vectors.detach() * (1 - share) if share < 1 else vectors
