"""Compute the loss that a recipe names from the vectors of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zoo.families.dense.spec import Spec
from zoo.ops import distillation, icnn, losses, proto_triplet, triplet


@dataclass(frozen=True)
class BatchFacts:
    """The values that a loss needs besides vectors.

    Attributes:
        scores: (rows,) of pairs, or (rows, candidates) of a teacher; None for losses without scores.
        labels: (rows,) int64, equal for rows of a class; None for losses without classes.
        mask: (rows, candidates of all rows) bool, true for one that must not count as a negative; None without candidates.
    """

    scores: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    mask: torch.Tensor | None = None


def compute_loss(spec: Spec, loss: str, table: torch.Tensor, facts: BatchFacts) -> torch.Tensor:
    """Return the scalar loss of a batch.

    Args:
        spec: the section of the recipe, for temperature, margins and options.
        loss: the name of the loss.
        table: (columns, rows, d). Anchors, positives and negatives; the two sides of pairs; or texts of classes.
        facts: what belongs to the rows.
    """
    scale = 1 / spec.temperature
    if loss == "triplet":
        return _compute_triplet_loss(spec, table, facts.mask)
    if loss in ("margin-mse", "kl"):
        assert facts.scores is not None  # `collate` has put them there
        return _compute_distillation_loss(spec, loss, table, facts.scores)
    if loss in ("proto-triplet", "icnn"):
        assert facts.labels is not None
        return _compute_class_loss(spec, loss, table[0], facts.labels)
    return losses.compute_sentence_loss(
        table, facts.scores, loss, scale, mask=facts.mask, symmetric=spec.symmetric and loss == "contrastive"
    )


def _compute_triplet_loss(spec: Spec, table: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    margin = None if spec.margin == "soft" else float(spec.margin)
    if spec.triplet_negatives == "own":
        return triplet.compute_triplet_loss(table[0], table[1], table[2:], margin)
    return triplet.compute_mined_triplet_loss(
        table[0], table[1:].flatten(0, 1), margin, mining=spec.triplet_negatives, mask=mask
    )


def _compute_distillation_loss(spec: Spec, loss: str, table: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    own = distillation.compute_candidate_scores(table[0], table[1:], scale=1 / spec.temperature)
    if loss == "margin-mse":
        return distillation.compute_margin_mse_loss(own, scores)
    is_encoder = spec.teacher is not None and spec.teacher.kind == "encoder"
    default = spec.temperature if is_encoder else 1.0
    given = spec.teacher.temperature if spec.teacher else None
    return distillation.compute_kl_loss(own, scores, 1.0, default if given is None else given)


def _compute_class_loss(spec: Spec, loss: str, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if loss == "icnn":
        return icnn.compute_icnn_loss(vectors, labels)
    return proto_triplet.compute_batch_proto_triplet_loss(vectors, labels, float(spec.margin))
