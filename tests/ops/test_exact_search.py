"""The blocked search gives what sorting all scores gives, with equal scores in the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ops import exact_search


def sort_all(queries, corpus, k, excluded=()):
    scores = (queries @ corpus.T).astype(np.float32)
    for number, row in excluded:
        scores[number, row] = -np.inf
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, ids, axis=1)
    return values, np.where(np.isneginf(values), exact_search.NOTHING, ids)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 70),
    k=st.integers(1, 80),
    corpus_block=st.integers(1, 80),
    query_block=st.integers(1, 8),
    spread=st.integers(1, 4),
)
def test_blocks_give_what_sorting_all_scores_gives_also_with_ties(seed, rows, k, corpus_block, query_block, spread):
    rng = np.random.default_rng(seed)
    # Small whole numbers have exact products, so most scores are shared by several rows.
    queries, corpus = (rng.integers(-spread, spread + 1, (n, 3)).astype(np.float32) for n in (7, rows))
    excluded = sorted({(int(rng.integers(7)), int(rng.integers(rows))) for _ in range(9)})
    pairs = tuple(np.array(part, np.int64) for part in zip(*excluded, strict=True))
    found = exact_search.search(queries, corpus, k, excluded=pairs, corpus_block=corpus_block, query_block=query_block)
    expected = sort_all(queries, corpus, min(k, rows), excluded)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_the_best_of_real_vectors_are_found_in_any_order_of_the_corpus(order):
    rng = np.random.default_rng(1)
    queries, corpus = (rng.standard_normal((n, 16)).astype(np.float32) for n in (20, 3000))
    if order != "random":
        corpus = corpus[np.argsort(corpus @ queries[0] * (1 if order == "rising" else -1))]
    scores, ids = exact_search.search(queries, corpus, 25, corpus_block=128)
    expected_scores, expected_ids = sort_all(queries, corpus, 25)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    assert (ids == expected_ids).mean() > 0.99
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_query_without_any_row_left_gets_nothing():
    vectors = np.ones((2, 2), np.float32)
    pairs = (np.array([0, 0]), np.array([0, 1]))
    scores, ids = exact_search.search(vectors, vectors, 2, excluded=pairs)
    assert ids.tolist() == [[-1, -1], [0, 1]]
    assert np.isneginf(scores[0]).all()


def test_zeros_of_both_signs_are_equal():
    corpus = np.array([[-0.0], [0.0], [-0.0]], np.float32)
    assert exact_search.search(np.ones((1, 1), np.float32), corpus, 2)[1].tolist() == [[0, 1]]
