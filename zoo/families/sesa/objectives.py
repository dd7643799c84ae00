"""The two training objectives of SESA: the ranking of pairs, and the concepts that texts are tagged with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from zoo.ops.false_negatives import false_negative_mask


def compute_ranking_loss(
    queries: torch.Tensor, documents: torch.Tensor, text_keys: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Compute the in-batch contrastive loss of n pairs, in both directions.

    Row i of one side belongs to row i of the other. Row j is a negative of row i, unless its text is also right for row i: such
    a false negative is masked. Source: Henderson et al. 2017, arXiv 1705.00652, section 4.

    Args:
        queries, documents: unit vectors, (n, d) each.
        text_keys: (2, n) integers, equal for equal texts of a side.
        temperature: the cosines are divided by it.
    """
    scale = 1 / temperature
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries.float() @ documents.float().T * scale
    query_keys, document_keys = text_keys
    targets = torch.arange(len(queries), device=queries.device)
    losses = [
        F.cross_entropy(side_logits.masked_fill(false_negative_mask(*keys), -torch.inf), targets)
        for side_logits, keys in ((logits, (query_keys, document_keys)), (logits.T, (document_keys, query_keys)))
    ]
    return (losses[0] + losses[1]) / 2


def compute_tagging_loss(
    log_probabilities: torch.Tensor, tags: torch.Tensor, level_concepts: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Compute the mean of −log p(c | text) over the tags of a text, then over texts, then over levels.

    A text without a tag on a level does not count there, because its concepts are unknown. The loss is 0 if no text has a
    tag.

    Args:
        log_probabilities: (n, C) log p(c | text).
        tags: (n, C) bool.
        level_concepts: columns of the concepts of each level.
    """
    terms = []
    for columns in level_concepts:
        level_tags = tags[:, columns].to(log_probabilities.dtype)
        tag_counts = level_tags.sum(1)
        per_text = -(log_probabilities[:, columns] * level_tags).sum(1) / tag_counts.clamp(min=1)
        terms.append(per_text.sum() / (tag_counts > 0).sum().clamp(min=1))
    return torch.stack(terms).mean()
