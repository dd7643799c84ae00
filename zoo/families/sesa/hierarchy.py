"""Activations in a space of named concepts, and what they are trained by. Pure functions of float tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch, F = lazy("torch"), lazy("torch.nn.functional")

Edges = Sequence[tuple["torch.Tensor", "torch.Tensor"]]
"""(children, parents) rows of equal length, those of the deepest children first."""
LEAN = 1e-6  # by how much a concept that stands a level higher is preferred among equals


def edges(parents: Sequence[Sequence[int]], levels: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The steps of `lift` for a hierarchy given as rows of parents by row, and the level of each row."""
    out = []
    for level in sorted({n for n in levels if n}, reverse=True):
        pairs = [(child, up) for child, above in enumerate(parents) if levels[child] == level for up in above]
        children, ups = zip(*pairs, strict=True)
        out.append((torch.tensor(children), torch.tensor(ups)))
    return out


def information(raw: torch.Tensor, prior: torch.Tensor, groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """log p(c | text) - log p(c), the pointwise mutual information of text and concept, (n, C).

    Args:
        raw: (n, C) scores of concepts; prior: (C,) log p(c); groups: rows of the concepts among which p is a distribution.
    """
    out = torch.empty_like(raw)
    for rows in groups:
        own = raw[:, rows]
        out[:, rows] = own - torch.logsumexp(own + prior[rows], dim=1, keepdim=True)
    return out


def lift(values: torch.Tensor, steps: Edges) -> torch.Tensor:
    """(n, C) values with each parent's at least its highest child's; what is no parent keeps its own."""
    for children, ups in steps:
        below = values[:, children]
        values = values.scatter_reduce(1, ups.to(values.device).expand(len(values), -1), below, "amax")
    return values


def agreed(told: torch.Tensor, steps: Edges) -> torch.Tensor:
    """Log-probabilities (n, C) on which the levels of a hierarchy agree: that of a parent is the geometric mean of its own and
    of what the deepest below it sum to; then each child's is multiplied by the root of its likeliest parent's. The less
    the levels agree about a text, the smaller they are."""
    own, sums = told.exp(), torch.zeros_like(told)
    inner = torch.zeros(told.shape[1], dtype=torch.bool, device=told.device)
    for _, ups in steps:
        inner[ups] = True
    for children, ups in steps:
        shares = torch.where(inner, sums, own)[:, children] / torch.bincount(children)[children].to(told)
        sums = sums.index_add(1, ups.to(told.device), shares)
    mass = torch.where(inner, sums, own).clamp(min=torch.finfo(told.dtype).tiny)
    out = (told + mass.log()) / 2
    for children, ups in reversed(steps):
        places = children.to(out.device).expand(len(out), -1)
        above = torch.full_like(out, -torch.inf).scatter_reduce(1, places, out[:, ups], "amax")
        out = torch.where(above > -torch.inf, out + above / 2, out)
    return out


def largest(values: torch.Tensor, count: int, levels: torch.Tensor) -> torch.Tensor:
    """(n, C) non-negative values with all but the `count` largest of each row at 0. Of nearly equal ones those of a lower
    level (C,) stay, so that no child stays whose parent goes, where `lift` came before."""
    if count >= values.shape[1]:
        return values
    lean = 1 + LEAN * (levels.max() - levels)
    kept = (values.detach() * lean).topk(count, dim=1).indices
    return torch.zeros_like(values).scatter(1, kept, values.gather(1, kept))


def ranking(a: torch.Tensor, b: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """In-batch contrastive loss in both directions of n pairs of unit vectors (n, d): row i of one side belongs to row i of the
    other, and to no row j unless `keys` (2, n) say that i and j are one text on a side, upon which j is left out.
    Source: Henderson et al. 2017, arXiv 1705.00652, section 4."""
    with torch.autocast(a.device.type, enabled=False):
        logits = a.float() @ b.float().T * scale
    also = (keys[:, :, None] == keys[:, None, :]).any(0)
    also.fill_diagonal_(False)
    logits = logits.masked_fill(also, -torch.inf)
    own = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def tagging(told: torch.Tensor, tags: torch.Tensor, groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over levels of -log p(c | text), averaged over the tags of a text, and over the texts that have a tag there: of
    a text without one nothing is known, and it counts for nothing. 0 where no text has any.

    Args:
        told: (n, C) log p(c | text); tags: (n, C) bool; groups: rows of the concepts of each level.
    """
    terms = []
    for rows in groups:
        own = tags[:, rows].to(told.dtype)
        count = own.sum(1)
        per_text = -(told[:, rows] * own).sum(1) / count.clamp(min=1)
        terms.append(per_text.sum() / (count > 0).sum().clamp(min=1))
    return torch.stack(terms).mean()
