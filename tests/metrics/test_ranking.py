"""Ranking measures by hand: ties, cut-offs, and queries that cannot be scored."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.metrics.ranking import compute_ranking_quality


def test_a_small_ranking_by_hand():
    scores, relevant = np.array([[0.9, 0.8, 0.7, 0.6]]), np.array([[False, True, False, True]])
    gain, best = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3)
    quality = compute_ranking_quality(scores, relevant)
    assert quality.ndcg == pytest.approx(gain / best)
    assert quality.map == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert quality.auc == pytest.approx(1 / 4)
    assert compute_ranking_quality(scores, relevant, top=2).ndcg == pytest.approx(1 / np.log2(3) / best)
    assert compute_ranking_quality(scores, relevant, top=1).ndcg == 0


def test_only_the_first_ten_documents_count_for_ndcg_by_default():
    scores, relevant = -np.arange(12.0)[None], np.zeros((1, 12), bool)
    relevant[0, 9] = True
    assert compute_ranking_quality(scores, relevant).ndcg == pytest.approx(1 / np.log2(11))
    assert compute_ranking_quality(scores, relevant[:, [9, *range(1, 9), 0, 10, 11]]).ndcg == 1
    assert compute_ranking_quality(scores, np.roll(relevant, 1)).ndcg == 0


def test_tied_documents_keep_their_order_and_count_half_for_auc():
    quality = compute_ranking_quality(np.ones((1, 40)), np.arange(40)[None] == 1)
    assert (quality.ndcg, quality.map, quality.auc) == (pytest.approx(1 / np.log2(3)), 0.5, 0.5)


def test_many_documents_with_few_scores_keep_their_order():
    scores, relevant = (np.arange(300) % 5)[None] * 1.0, np.arange(300)[None] == 14
    quality = compute_ranking_quality(scores, relevant)  # the third of those with the highest score
    assert (quality.ndcg, quality.map) == (pytest.approx(1 / np.log2(4)), pytest.approx(1 / 3))
    assert quality.auc == pytest.approx((240 + 59 / 2) / 299)


def test_queries_without_a_relevant_or_without_another_document_are_left_out():
    scores = np.array([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]])
    relevant = np.array([[True, True], [False, False], [False, True]])
    assert compute_ranking_quality(scores, relevant) == (1, 1, 1)
    assert compute_ranking_quality(scores[:2], relevant[:2]) == (0, 0, 0)
    assert compute_ranking_quality(scores, np.array([[True, False]] * 3)).map == 0.5
