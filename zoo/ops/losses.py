"""Sentence-embedding losses as pure functions of tensors. Every input is float, every output a scalar.

`scale` multiplies cosines and is the inverse of the temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch, F = lazy("torch"), lazy("torch.nn.functional")


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, d) and (m, d) to the (n, m) matrix of cosines, at the precision of the inputs under autocast as well: times a scale of
    20, the eight bits of a bfloat16 product are coarser than most cosines differ."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def contrastive(anchors: torch.Tensor, candidates: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """In-batch contrastive loss: anchor i (of n) belongs to candidate i; the m ≥ n candidates of all rows are its choices,
    hard negatives standing after the n positives. Source: Henderson et al. 2017, arXiv 1705.00652, section 4."""
    logits = cosines(anchors, candidates) * scale
    return F.cross_entropy(logits, torch.arange(len(anchors), device=logits.device))


def _ordered(values: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """log(1 + Σ exp(v_j - v_i)) over the pairs with score_i > score_j: 0 when `values` rank as `scores` do."""
    differences = values[None, :] - values[:, None]
    wrong = differences[scores[:, None] > scores[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def cosent(a: torch.Tensor, b: torch.Tensor, scores: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """CoSENT: pairs (n, d) whose gold score (n,) is higher must have the higher cosine.
    Source: Su, "CoSENT", 2022; as L_cos in AnglE, arXiv 2309.12871, equation 2."""
    return _ordered(F.cosine_similarity(a, b, dim=-1) * scale, scores)


def angle(a: torch.Tensor, b: torch.Tensor, scores: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """AnglE: the halves of each (n, d) vector, d even, are real and imaginary parts; a/b is divided out in complex space,
    normalised by the magnitudes and summed: largest where the angle between them is 0. Ranked as in CoSENT.
    Source: Li & Li, AnglE, arXiv 2309.12871, equations 5-8."""
    real_a, imag_a = a.chunk(2, dim=-1)
    real_b, imag_b = b.chunk(2, dim=-1)
    size = (real_b**2 + imag_b**2).sum(-1, keepdim=True)
    real = (real_a * real_b + imag_a * imag_b) / size
    imag = (imag_a * real_b - real_a * imag_b) / size
    ratio = ((real_a**2 + imag_a**2).sum(-1, keepdim=True) / size).sqrt()
    agreement = (torch.cat([real, imag], dim=-1) / ratio).sum(-1).abs()
    return _ordered(agreement * scale, scores)


def sentence(
    columns: torch.Tensor,
    scores: torch.Tensor | None,
    kind: str,
    scale: float,
    weights: tuple[float, float, float] = (1.0, 0.0, 1.0),
) -> torch.Tensor:
    """The loss a recipe names, of (columns, rows, d): anchors, positives and perhaps hard negatives for `contrastive`; the
    two sides of pairs with `scores` (rows,) for `cosent` and `angle`, whose terms CoSENT, in-batch and angle are weighted."""
    first, second = columns[0], columns[1]
    if kind == "contrastive":
        return contrastive(first, columns[1:].flatten(0, 1), scale)
    if scores is None:
        raise ValueError(f"{kind} needs scores")
    if kind == "cosent":
        return cosent(first, second, scores, scale)
    total = weights[0] * cosent(first, second, scores, scale) + weights[2] * angle(first, second, scores, scale)
    best = scores == scores.max()  # only these pairs are surely positives
    return total + weights[1] * contrastive(first[best], second[best], scale) if weights[1] else total


def alignment(deep: torch.Tensor, shallow: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """T²·KL(softmax(X_N/T) ‖ softmax(X_n/T)) over dimensions, mean over the batch; both (n, d).

    Meant for pooled vectors before normalisation: on unit vectors the softmax is all but uniform and the term vanishes.
    Source: 2D Matryoshka, arXiv 2402.14776, equation 5."""
    target = F.log_softmax(deep / temperature, dim=-1)
    given = F.log_softmax(shallow / temperature, dim=-1)
    return F.kl_div(given, target, log_target=True, reduction="batchmean") * temperature**2


def relations(teacher: torch.Tensor, student: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """KL between the teacher's and the student's distribution over the other rows, from scaled cosines; (n, d) and (n, e).
    The widths may differ: only similarities are compared."""
    off = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    n = len(student)
    target = F.log_softmax((cosines(teacher, teacher) * scale)[off].view(n, n - 1), dim=-1)
    given = F.log_softmax((cosines(student, student) * scale)[off].view(n, n - 1), dim=-1)
    return F.kl_div(given, target, log_target=True, reduction="batchmean")
