"""nDCG of found documents against the scores of whole rankings, and shares counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.after.codes import figures
from zoo.after.codes.training import mask_easy_negatives
from zoo.metrics.ranking import compute_ranking_quality


def test_ndcg_of_the_found_is_that_of_the_whole_ranking():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((30, 60))
    relevant = rng.random((30, 60)) < np.linspace(0.02, 0.4, 30)[:, None]
    answers = np.argwhere(relevant)
    found = np.argsort(-scores, axis=1)[:, : figures.TOP]
    assert figures.compute_ndcg(found, answers) == pytest.approx(compute_ranking_quality(scores, relevant).ndcg)


def test_recall_is_the_share_of_equal_numbers_in_any_order():
    assert (
        figures.compute_recall(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[4, 3, 9, 8], [8, 7, 6, 5]])) == 0.75
    )


def test_a_query_that_is_a_document_does_not_find_itself():
    rows = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    own = np.array([3, 17])
    found = figures.search_top(rows[own], rows, own)
    assert found.shape == (2, 10)
    assert not (found == own[:, None]).any()


def test_only_the_hardest_negatives_count():
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.3], [0.0, 0.9, 0.5, 0.6], [0.9, 0.8, 0.7, 0.1], [0.4, 0.3, 0.2, 0.1]])
    is_answer = torch.eye(4, dtype=torch.bool)
    is_answer[0, 2] = True
    mask = mask_easy_negatives(scores, is_answer, 2)
    assert mask.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
