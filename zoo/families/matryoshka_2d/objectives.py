"""Training objectives as pure functions: the paper's, and `elastic`, which gives every layer a head of its own.

Source: Li et al., "2D Matryoshka Sentence Embeddings", arXiv 2402.14776, section 3. The weights of the shallow layers are
those of ESE, from the paper's second version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

from zoo.ops import losses

SentenceLoss = Callable[[torch.Tensor], torch.Tensor]
"""Any sentence loss: (columns, rows, d) to a scalar, for example with the columns anchor, positive and hard negative."""


def compute_shallow_weights(layers: Sequence[int], depth: int) -> dict[int, float]:
    """Weight of each shallow layer's term; the weights sum to 1.

    One sampled layer has weight 1 (2DMSE). Several layers have weights proportional to 1 / (1 + ln(depth − n)), as in ESE, so
    that layers nearer the last one weigh more.
    """
    raw = {n: 1.0 / (1.0 + math.log(depth - n)) for n in layers}
    return {n: weight / sum(raw.values()) for n, weight in raw.items()}


def compute_2dmse(
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
        shallow: pooled vectors X_n of shallow layers by layer n, of the same shape; the paper has one layer.
        width: m, which all layers share.
        weights: weight of each shallow layer's terms.
        deep_weight, shallow_weight: λt and λs.
        align: weight of the KL term; 0 leaves it out.
        detach: whether the KL term gives X_N no gradient. The paper does not detach.
        temperature: T of the KL term.
    """
    total = deep_weight * (loss(deep) + loss(deep[..., :width]))
    target = (deep.detach() if detach else deep).flatten(0, 1)
    for n, vectors in shallow.items():
        term = shallow_weight * (loss(vectors) + loss(vectors[..., :width]))
        if align:
            term = term + align * losses.compute_alignment_loss(target, vectors.flatten(0, 1), temperature)
        total = total + weights[n] * term
    return total


def compute_elastic(
    deep: torch.Tensor,
    shallow: Mapping[int, torch.Tensor],
    widths: Sequence[int],
    loss: SentenceLoss,
    *,
    narrow_weight: float = 0.5,
    task_weight: float = 0.3,
    cosine_weight: float = 1.0,
) -> torch.Tensor:
    """ℓ(E_N) + a·mean_m ℓ(E_N[:m]) + Σ_n ( b·mean_m ℓ(E_n[:m]) + c·mean(1 − cos(E_n, sg(E_N))) ).

    Every shallow layer learns the task at every width, and follows the last layer of the same step. The last layer gets no
    gradient from the shallow ones (sg stops the gradient), so the whole encoder trains as it would alone.

    Args:
        deep: embeddings E_N of the last layer after its head, (columns, rows, d).
        shallow: embeddings E_n of shallow layers by layer n, of the same shape.
        widths: values of m; those below d count, and d itself is always added for the shallow layers.
        narrow_weight, task_weight, cosine_weight: a, b and c.
    """
    full_width = deep.shape[-1]
    narrow_widths = [width for width in widths if width < full_width]
    target = deep.detach()
    total = loss(deep) + narrow_weight * _compute_mean([loss(deep[..., :width]) for width in narrow_widths])
    for vectors in shallow.values():
        terms = [loss(vectors[..., :width]) for width in (*narrow_widths, full_width)]
        total = total + task_weight * _compute_mean(terms)
        total = total + cosine_weight * (1 - F.cosine_similarity(vectors, target, dim=-1)).mean()
    return total


def _compute_mean(terms: list[torch.Tensor]) -> torch.Tensor | float:
    return sum(terms[1:], start=terms[0]) / len(terms) if terms else 0.0


def scale_gradient(vectors: torch.Tensor, share: float) -> torch.Tensor:
    """Return `vectors` with their gradient multiplied by `share`, from 0 to 1."""
    return vectors * share + vectors.detach() * (1 - share) if share < 1 else vectors
