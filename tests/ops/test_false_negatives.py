"""Candidates of other rows that are right for a row as well are no negatives of it, for every in-batch loss."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.families.sesa.objectives import compute_ranking_loss
from zoo.ops import losses
from zoo.ops.false_negatives import compute_text_key, false_negative_mask


def test_a_candidate_equal_to_the_positive_of_an_equal_query_is_masked_but_the_own_positive_is_not():
    queries = torch.tensor([1, 1, 2])
    candidates = torch.tensor([7, 8, 9, 8, 5])  # the positives of the three queries, then two hard negatives
    assert false_negative_mask(queries, candidates).tolist() == [
        [False, True, False, True, False],
        [True, False, False, True, False],
        [False, False, False, False, False],
    ]


def test_equal_positives_do_not_enter_the_contrastive_loss():
    torch.manual_seed(0)
    anchors, positives = torch.randn(3, 8), torch.randn(3, 8)
    positives[1] = positives[0]
    mask = false_negative_mask(torch.tensor([1, 2, 3]), torch.tensor([5, 5, 6]))
    cosines = losses.compute_cosines(anchors, positives) * 20
    by_hand = [
        torch.logsumexp(cosines[i, kept], 0) - cosines[i, i] for i, kept in enumerate(([0, 2], [1, 2], [0, 1, 2]))
    ]
    loss = losses.compute_contrastive_loss(anchors, positives, mask=mask)
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)
    sentence_loss = losses.compute_sentence_loss(
        torch.stack([anchors, positives]), None, "contrastive", 20.0, mask=mask
    )
    assert sentence_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    scores = torch.ones(3)
    angle = losses.compute_sentence_loss(torch.stack([anchors, positives]), scores, "angle", 20.0, (0, 1, 0), mask)
    assert angle.item() == pytest.approx(loss.item(), rel=1e-6)


def test_the_ranking_loss_masks_both_directions_and_the_positives_of_equal_queries():
    torch.manual_seed(0)
    queries, documents = torch.eye(3), torch.eye(3)[[0, 2, 1]]
    loss = compute_ranking_loss(queries, documents, torch.tensor([[1, 1, 2], [5, 6, 6]]), 1.0)
    # Text 6 is right for the queries 1 and 2, and query 1 for the texts 5 and 6, so query 1 has no negative left.
    e = torch.e
    to_documents = [0.0, 0.0, math.log((1 + 1) / 1)]
    to_queries = [math.log((e + 1) / e), 0.0, 0.0]
    assert loss.item() == pytest.approx((sum(to_documents) + sum(to_queries)) / 6, rel=1e-5)


def test_the_key_of_a_text_is_the_same_everywhere_and_fits_64_bits():
    assert compute_text_key("arm") == compute_text_key("arm") != compute_text_key("Arm")
    assert 0 <= compute_text_key("\ud800") < 2**63
