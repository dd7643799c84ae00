"""Distillation from scores: a student's similarities of an anchor to its candidates follow those of a teacher.

The first candidate of a row is the positive, the others are its negatives. A teacher is a cross-encoder or a larger encoder.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Similarity = Literal["cosine", "dot"]


def compute_candidate_scores(
    anchors: torch.Tensor, candidates: torch.Tensor, similarity: Similarity = "cosine", scale: float = 1.0
) -> torch.Tensor:
    """Return `scale` times the similarities (n, c) of each anchor to the candidates of its row.

    Args:
        anchors: (n, d).
        candidates: (c, n, d), first the positives, then the negatives.
        similarity: `cosine`, or `dot` for the product of vectors as they are.
        scale: the inverse of the temperature. With cosines, scores are between -scale and scale.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        if similarity == "cosine":
            anchors, candidates = F.normalize(anchors, dim=-1), F.normalize(candidates, dim=-1)
        return (anchors * candidates).sum(-1).T * scale


def compute_margin_mse_loss(
    scores: torch.Tensor, teacher_scores: torch.Tensor, present: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error between the student's and the teacher's margins: score of the positive minus that of a negative.

    Args:
        scores: (n, 1 + k), the student's; see `compute_candidate_scores`.
        teacher_scores: (n, 1 + k) float, any finite numbers. No gradient flows to them.
        present: (n, 1 + k) bool, false for a candidate that is missing. Default: all are present.

    Source: Hofstätter et al. 2020, arXiv 2010.02666.
    """
    margins = scores[:, :1] - scores[:, 1:]
    teacher_margins = (teacher_scores[:, :1] - teacher_scores[:, 1:]).detach()
    is_pair = torch.ones_like(margins, dtype=torch.bool) if present is None else present[:, :1] & present[:, 1:]
    # The score of a missing candidate may be NaN, which a product with 0 would keep.
    errors = (margins - teacher_margins).masked_fill(~is_pair, 0.0)
    return errors.pow(2).sum() / is_pair.sum().clamp_min(1)


def compute_kl_loss(
    scores: torch.Tensor,
    teacher_scores: torch.Tensor,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """temperature² · KL(softmax(teacher) ‖ softmax(student)) over the candidates of a row, mean over the rows.

    A row with fewer than two candidates does not count, because its distribution is a constant.

    Args:
        scores: (n, c), the student's; see `compute_candidate_scores`.
        teacher_scores: (n, c) float, any finite numbers. No gradient flows to them.
        temperature: the student's scores are divided by it.
        teacher_temperature: the teacher's scores are divided by it. Default: `temperature`.
        present: (n, c) bool, false for a candidate that is missing. Default: all are present.

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2. For ranking: Lin et al. 2020, arXiv 2010.11386.
    """
    if present is None:
        present = torch.ones_like(scores, dtype=torch.bool)
    # With a finite number instead of -infinity, a missing candidate and a row without candidates give terms of exactly 0.
    lowest = torch.finfo(scores.dtype).min
    log_probs = F.log_softmax((scores / temperature).masked_fill(~present, lowest), dim=1)
    teacher_logits = teacher_scores.detach() / (teacher_temperature or temperature)
    target_log_probs = F.log_softmax(teacher_logits.to(scores.dtype).masked_fill(~present, lowest), dim=1)
    is_row = present.sum(1) > 1
    divergences = target_log_probs.exp() * (target_log_probs - log_probs)
    return divergences.sum() / is_row.sum().clamp_min(1) * temperature**2
