"""Likely false negatives of an in-batch loss: candidates that a guide model finds about as good as the positive."""

from __future__ import annotations

from typing import Literal

import torch

from zoo.ops.losses import compute_cosines

MarginKind = Literal["relative", "absolute"]


def mask_guided_negatives(
    similarities: torch.Tensor,
    positive_similarities: torch.Tensor,
    margin: float = 0.95,
    margin_kind: MarginKind = "relative",
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mask (n, m) of candidates that must not count as negatives, as `compute_contrastive_loss` takes it.

    A candidate is masked if the guide's similarity is above a limit. Relative: the limit is `margin` times the similarity of
    the anchor's own positive p; for a negative p, it is as far below p. Absolute: the limit is p - `margin`. A similarity that
    equals the limit is not masked. Without a difference of the vectors, rounding decides: pass `known` for equal texts.

    Args:
        similarities: (n, m) float, of each anchor to each candidate by the guide; the n positives come first.
        positive_similarities: (n,) float, of each anchor to its own positive by the guide.
        margin: relative: share of p, for example 0.95. Absolute: distance below p, for example 0.05.
        known: (n, m) bool, known false negatives and missing candidates, which are masked too; see `false_negatives`.

    Source: Solatorio 2024, GISTEmbed, arXiv 2402.16829. The relative margin: Moreira et al. 2024, NV-Retriever,
    arXiv 2407.15831.
    """
    own = positive_similarities[:, None]
    limits = own - (1 - margin) * own.abs() if margin_kind == "relative" else own - margin
    mask = similarities > limits
    if known is not None:
        mask |= known
    return mask.fill_diagonal_(False)


def compute_guide_mask(
    anchors: torch.Tensor,
    candidates: torch.Tensor,
    margin: float = 0.95,
    margin_kind: MarginKind = "relative",
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mask (n, m) of `mask_guided_negatives` for the guide's vectors. No gradient flows to them.

    Args:
        anchors: (n, g), the guide's vectors of the anchors.
        candidates: (m, g) with m >= n: the guide's vectors of the n positives, then of the hard negatives of all rows.
        margin, margin_kind, known: as in `mask_guided_negatives`.
    """
    with torch.no_grad():
        similarities = compute_cosines(anchors, candidates)
        return mask_guided_negatives(similarities, similarities.diagonal(), margin, margin_kind, known)
