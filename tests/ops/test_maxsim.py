"""MaxSim of ragged sets equals a loop over all pairs of tokens, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_samples import draw_sets

from zoo.core.errors import ZooError
from zoo.ops import maxsim
from zoo.ops.maxsim import compute_batch_maxsim, compute_candidate_maxsim, compute_maxsim, rerank
from zoo.ops.token_sets import compute_mean_vectors, join_token_sets, select_token_sets, split_token_sets


def score_slowly(queries, documents):
    """The definition, by a loop over all pairs."""
    return np.array(
        [
            [
                sum(max(q @ d for d in document) for q in query) if len(query) and len(document) else 0.0
                for document in documents
            ]
            for query in queries
        ]
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    query_lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    query_tokens=st.integers(1, 12),
    document_tokens=st.integers(1, 20),
)
def test_blocks_give_what_a_loop_over_all_tokens_gives(seed, query_lengths, lengths, query_tokens, document_tokens):
    queries, documents = draw_sets(query_lengths, 4, seed), draw_sets(lengths, 4, seed + 1)
    found = compute_maxsim(queries, documents, query_tokens=query_tokens, document_tokens=document_tokens)
    expected = score_slowly(split_token_sets(*queries), split_token_sets(*documents))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_equal_those_of_sentence_transformers():
    util = pytest.importorskip("sentence_transformers.util.similarity")
    queries, documents = draw_sets([3, 12, 1], 16, 1), draw_sets([8, 40, 2, 5], 16, 2)
    tensors = [[torch.from_numpy(own) for own in split_token_sets(*sets)] for sets in (queries, documents)]
    np.testing.assert_allclose(compute_maxsim(queries, documents), util.maxsim(*tensors).numpy(), atol=1e-5)


def test_candidates_have_the_scores_of_the_whole_table_and_are_sorted_by_them():
    queries, documents = draw_sets([3, 5, 2], 8, 1), draw_sets([4, 9, 1, 6, 7], 8, 2)
    candidates = np.array([[4, 0, 2], [1, 3, -1], [2, 2, 0]])
    every = compute_maxsim(queries, documents)
    found = compute_candidate_maxsim(queries, documents, candidates)
    assert np.isneginf(found[1, 2])
    is_there = candidates >= 0
    np.testing.assert_allclose(found[is_there], np.take_along_axis(every, candidates, 1)[is_there], atol=1e-6)
    scores, numbers = rerank(queries, documents, candidates)
    assert (np.diff(scores[:1]) <= 0).all()
    assert numbers[1, 2] == -1
    assert sorted(numbers[0]) == [0, 2, 4]


def test_a_padded_batch_has_the_mean_over_the_tokens_of_a_query(monkeypatch):
    queries, documents = draw_sets([3, 5, 2, 0], 8, 1), draw_sets([4, 9, 0], 8, 2)
    padded = []
    for tokens, offsets in (queries, documents):
        sets = [torch.from_numpy(own) for own in split_token_sets(tokens, offsets)]
        lengths = torch.tensor([len(own) for own in sets])
        vectors = torch.nn.utils.rnn.pad_sequence(sets, batch_first=True, padding_value=7.0)
        padded += [vectors, torch.arange(vectors.shape[1]) < lengths[:, None]]
    expected = compute_maxsim(queries, documents) / np.array([[3], [5], [2], [1]])
    np.testing.assert_allclose(compute_batch_maxsim(*padded), expected, atol=1e-6)
    monkeypatch.setattr(maxsim, "TRAINING_PRODUCTS", 1)
    np.testing.assert_allclose(compute_batch_maxsim(*padded), expected, atol=1e-6)


def test_the_gradient_of_a_batch_reaches_the_best_tokens_alone():
    query = torch.tensor([[[1.0, 0.0]]])
    document = torch.tensor([[[0.9, 0.1], [0.1, 0.9], [9.0, 9.0]]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    compute_batch_maxsim(query, torch.ones(1, 1, dtype=torch.bool), document, mask).sum().backward()
    torch.testing.assert_close(document.grad, torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]))


def test_sets_are_selected_and_averaged():
    tokens, offsets = draw_sets([2, 0, 3], 4)
    sets = split_token_sets(tokens, offsets)
    chosen, chosen_offsets = select_token_sets(tokens, offsets, np.array([2, 1, 2, 0]))
    for found, number in zip(split_token_sets(chosen, chosen_offsets), (2, 1, 2, 0), strict=True):
        np.testing.assert_array_equal(found, sets[number])
    means = compute_mean_vectors(tokens, offsets)
    np.testing.assert_allclose(means[2], sets[2].sum(0) / np.linalg.norm(sets[2].sum(0)), atol=1e-6)
    assert not means[1].any()
    again = join_token_sets(sets, 4)
    np.testing.assert_array_equal(again[0], tokens)
    np.testing.assert_array_equal(again[1], offsets)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 5], [0, 3, 2, 5], [], [0.0, 5.0]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    tokens, _ = draw_sets([5])
    with pytest.raises(ZooError, match="offsets"):
        compute_maxsim((tokens, np.array(offsets)), draw_sets([2]))


def test_sides_of_different_widths_are_refused():
    with pytest.raises(ZooError, match="24 components and documents of 8; use one encoder"):
        compute_maxsim(draw_sets([2]), draw_sets([2], 8))
