"""Concept scores that respect a hierarchy. Pure functions of float matrices (n, C): a row per text, a column per concept.

The hierarchy is a directed graph without cycles: a concept may have several parents. The level of a concept is the length
of its longest path up to a root, so a root has level 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Edges = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each level below the roots, the deepest first: (children, parents), two int64 tensors of equal length."""
PARENT_PREFERENCE = 1e-6  # relative bonus of a concept for each level that it stands higher


def build_edges(parents: Sequence[Sequence[int]], levels: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Build `Edges` from the parents of each concept and the level of each concept."""
    edges = []
    for level in sorted({level for level in levels if level}, reverse=True):
        pairs = [
            (child, parent) for child, of_child in enumerate(parents) if levels[child] == level for parent in of_child
        ]
        children, their_parents = zip(*pairs, strict=True)
        edges.append((torch.tensor(children), torch.tensor(their_parents)))
    return edges


def compute_pmi(logits: torch.Tensor, log_prior: torch.Tensor, level_concepts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute log p(c | text) − log p(c), the pointwise mutual information of text and concept, (n, C).

    Args:
        logits: (n, C); p(c | text) is their softmax after log p(c) is added.
        log_prior: (C,) log p(c).
        level_concepts: columns of the concepts of each level. p is a distribution over each of them.
    """
    information = torch.empty_like(logits)
    for columns in level_concepts:
        level_logits = logits[:, columns]
        normaliser = torch.logsumexp(level_logits + log_prior[columns], dim=1, keepdim=True)
        information[:, columns] = level_logits - normaliser
    return information


def raise_parents(values: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Raise the value of each parent to that of its highest child, (n, C). Leaves keep their values."""
    for children, parents in edges:
        targets = parents.to(values.device).expand(
            values.shape[0], -1
        )  # `len` would be a constant in an exported graph
        values = values.scatter_reduce(1, targets, values[:, children], "amax")
    return values


def reconcile_levels(log_probabilities: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Combine the distributions of all levels into one log-probability per concept, (n, C).

    Upwards, a parent gets the geometric mean of its own probability and the probability of the leaves below it. A leaf with
    several parents gives each an equal share. Downwards, each child is multiplied by the square root of its likeliest
    parent's result. The less the levels agree about a text, the smaller its results are.
    """
    probabilities = log_probabilities.exp()
    sums = torch.zeros_like(probabilities)
    is_parent = torch.zeros(probabilities.shape[1], dtype=torch.bool, device=probabilities.device)
    for _, parents in edges:
        is_parent[parents] = True
    for children, parents in edges:
        parent_counts = torch.bincount(children)[children].to(probabilities)
        shares = torch.where(is_parent, sums, probabilities)[:, children] / parent_counts
        sums = sums.index_add(1, parents.to(probabilities.device), shares)
    leaf_mass = torch.where(is_parent, sums, probabilities).clamp(min=torch.finfo(probabilities.dtype).tiny)
    results = (log_probabilities + leaf_mass.log()) / 2
    for children, parents in reversed(edges):
        targets = children.to(results.device).expand(len(results), -1)
        likeliest = torch.full_like(results, -torch.inf).scatter_reduce(1, targets, results[:, parents], "amax")
        results = torch.where(likeliest > -torch.inf, results + likeliest / 2, results)
    return results


def keep_largest(values: torch.Tensor, count: int, levels: torch.Tensor) -> torch.Tensor:
    """Set all but the `count` largest of each row of non-negative values (n, C) to 0.

    Among nearly equal values, that of the lower level (C,) stays. After `raise_parents`, a child therefore never stays
    without its parents.
    """
    if count >= values.shape[1]:
        return values
    preference = 1 + PARENT_PREFERENCE * (levels.max() - levels)
    columns = (values.detach() * preference).topk(count, dim=1).indices
    return torch.zeros_like(values).scatter(1, columns, values.gather(1, columns))
