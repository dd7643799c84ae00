"""Sentence-embedding losses as pure functions. All inputs are float tensors, all outputs scalars.

`scale` multiplies cosines; it is the inverse of the temperature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

SMALLEST_SQUARED_NORM = 1e-24  # of a vector in a quotient: the square of what `F.normalize` divides by at least


def compute_cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the cosines (n, m) between (n, d) and (m, d).

    Under autocast the precision is that of the inputs as well. Multiplied by a scale of 20, the eight bits of a bfloat16
    product are coarser than most differences between cosines.
    """
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def compute_contrastive_loss(
    anchors: torch.Tensor,
    candidates: torch.Tensor,
    scale: float = 20.0,
    mask: torch.Tensor | None = None,
    symmetric: bool = False,
) -> torch.Tensor:
    """In-batch contrastive loss: the cross-entropy of choosing candidate i for anchor i.

    Args:
        anchors: (n, d).
        candidates: (m, d) with m >= n: first the n positives, then the hard negatives of all rows.
        mask: (n, m) bool, true for a candidate that must not count as a negative of an anchor; see `false_negatives`. An
            anchor's own positive is never masked.
        symmetric: return the mean of this loss and that of choosing anchor i for positive i. The anchors of which positive i
            is a false negative are not among its negatives. Hard negatives count in the first direction only.

    Source: Henderson et al. 2017, arXiv 1705.00652, section 4. Symmetric: Günther et al. 2023, arXiv 2310.19923.
    """
    return compute_choice_loss(compute_cosines(anchors, candidates) * scale, mask, symmetric)


def compute_choice_loss(
    logits: torch.Tensor, mask: torch.Tensor | None = None, symmetric: bool = False
) -> torch.Tensor:
    """Cross-entropy of choosing candidate i for anchor i, from logits (n, m) of any similarity.

    The other arguments are those of `compute_contrastive_loss`.
    """
    count = len(logits)
    if mask is not None:
        logits = logits.masked_fill(mask.clone().fill_diagonal_(False), -torch.inf)
    targets = torch.arange(count, device=logits.device)
    loss = F.cross_entropy(logits, targets)
    return (loss + F.cross_entropy(logits[:, :count].T, targets)) / 2 if symmetric else loss


def _compute_ranking_loss(values: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """log(1 + Σ exp(v_j - v_i)) over the pairs with score_i > score_j; near 0 if `values` rank as `scores` do."""
    differences = values[None, :] - values[:, None]
    violations = differences[scores[:, None] > scores[None, :]]
    return torch.logsumexp(torch.cat([violations.new_zeros(1), violations]), dim=0)


def compute_cosent_loss(a: torch.Tensor, b: torch.Tensor, scores: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """CoSENT loss of pairs (n, d): a pair with a higher score (n,) must have the higher cosine.

    Source: Su, "CoSENT", 2022; L_cos in AnglE, arXiv 2309.12871, equation 2.
    """
    return _compute_ranking_loss(F.cosine_similarity(a, b, dim=-1) * scale, scores)


def compute_angle_loss(a: torch.Tensor, b: torch.Tensor, scores: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """AnglE loss of pairs (n, d): a pair with a higher score (n,) must have the smaller angle in complex space.

    The halves of a vector are its real and imaginary parts; an odd width is padded with a 0. The quotient a / b is normalised
    by the magnitudes and summed; the sum is largest if the angle is 0. The pairs are ranked as in CoSENT.

    Source: Li & Li, AnglE, arXiv 2309.12871, equations 5-8.
    """
    if a.shape[-1] % 2:
        a, b = F.pad(a, (0, 1)), F.pad(b, (0, 1))
    real_a, imag_a = a.chunk(2, dim=-1)
    real_b, imag_b = b.chunk(2, dim=-1)
    squared_norm_a = (real_a**2 + imag_a**2).sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARED_NORM)
    squared_norm_b = (real_b**2 + imag_b**2).sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARED_NORM)
    real = (real_a * real_b + imag_a * imag_b) / squared_norm_b
    imag = (imag_a * real_b - real_a * imag_b) / squared_norm_b
    norm_ratio = (squared_norm_a / squared_norm_b).sqrt()
    agreement = (torch.cat([real, imag], dim=-1) / norm_ratio).sum(-1).abs()
    return _compute_ranking_loss(agreement * scale, scores)


def compute_sentence_loss(
    columns: torch.Tensor,
    scores: torch.Tensor | None,
    kind: str,
    scale: float,
    weights: tuple[float, float, float] = (1.0, 0.0, 1.0),
    mask: torch.Tensor | None = None,
    symmetric: bool = False,
) -> torch.Tensor:
    """Compute the loss that a recipe names.

    Args:
        columns: (columns, rows, d). For "contrastive": anchors, positives, then any hard negatives. For "cosent" and "angle":
            the two sides of pairs.
        scores: (rows,) for "cosent" and "angle".
        kind: "contrastive", "cosent" or "angle".
        weights: factors of the terms of "angle": CoSENT, in-batch contrastive, AnglE.
        mask: (rows, (columns - 1) * rows) bool, the false negatives of the in-batch terms; see `false_negatives`.
        symmetric: for "contrastive": positives choose among the anchors as well.

    Raises ValueError if "cosent" or "angle" gets no scores.
    """
    first, second = columns[0], columns[1]
    if kind == "contrastive":
        return compute_contrastive_loss(first, columns[1:].flatten(0, 1), scale, mask, symmetric)
    if scores is None:
        raise ValueError(f"the loss {kind!r} needs scores")
    if kind == "cosent":
        return compute_cosent_loss(first, second, scores, scale)
    cosent_weight, contrastive_weight, angle_weight = weights
    total = cosent_weight * compute_cosent_loss(first, second, scores, scale)
    total = total + angle_weight * compute_angle_loss(first, second, scores, scale)
    if contrastive_weight:
        are_positives = scores == scores.max()  # pairs with a lower score may not be positives
        positives_mask = None if mask is None else mask[are_positives][:, are_positives]
        total = total + contrastive_weight * compute_contrastive_loss(
            first[are_positives], second[are_positives], scale, positives_mask
        )
    return total


def compute_alignment_loss(deep: torch.Tensor, shallow: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """T²·KL(softmax(X_N / T) ‖ softmax(X_n / T)) over dimensions, mean over the batch; both inputs (n, d).

    The inputs are pooled vectors before normalisation. The softmax of unit vectors is nearly uniform, so the loss would
    vanish. Source: 2D Matryoshka, arXiv 2402.14776, equation 5.
    """
    target_log_probs = F.log_softmax(deep / temperature, dim=-1)
    log_probs = F.log_softmax(shallow / temperature, dim=-1)
    return F.kl_div(log_probs, target_log_probs, log_target=True, reduction="batchmean") * temperature**2


def compute_relational_loss(teacher: torch.Tensor, student: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """KL divergence between the teacher's and the student's distribution over the other rows, from scaled cosines.

    `teacher` is (n, d), `student` is (n, e). The widths may differ, because only similarities are compared.
    """
    n = len(student)
    off_diagonal = ~torch.eye(n, dtype=torch.bool, device=student.device)
    target_log_probs = F.log_softmax((compute_cosines(teacher, teacher) * scale)[off_diagonal].view(n, n - 1), dim=-1)
    log_probs = F.log_softmax((compute_cosines(student, student) * scale)[off_diagonal].view(n, n - 1), dim=-1)
    return F.kl_div(log_probs, target_log_probs, log_target=True, reduction="batchmean")
