"""int8 and binary beside what sentence-transformers offers for the same ranges, and the faults that are mended."""

from __future__ import annotations

import after_steps
import faiss
import numpy as np
import pytest
from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss

from zoo.after.material import Material

DIM = 256
DOCUMENTS, QUERIES = (
    after_steps.draw_clustered(rows, DIM, spread=1.0, seed=seed) for rows, seed in ((2000, 1), (60, 2))
)
EXACT = after_steps.find_nearest(QUERIES @ DOCUMENTS.T)


@pytest.fixture(scope="module")
def int8():
    return after_steps.fit("int8", Material(DOCUMENTS))


def test_codes_are_those_of_sentence_transformers_for_values_moved_by_half_an_interval(int8):
    ranges = np.vstack([DOCUMENTS.min(0), DOCUMENTS.max(0)])
    theirs = quantize_embeddings(DOCUMENTS + int8.ranges.width / 2, "uint8", ranges=ranges)
    agree = int8.encode(DOCUMENTS) == theirs
    assert agree.mean() > 0.9999, "it rounds down where the nearest level is taken here"


def test_a_component_is_wrong_by_at_most_half_an_interval(int8):
    error = np.abs(int8.decode(int8.encode(DOCUMENTS)) - DOCUMENTS)
    assert (error <= int8.ranges.width * 0.5001).all()
    assert np.allclose(int8.ranges.width, (DOCUMENTS.max(0) - DOCUMENTS.min(0)) / 255)


def test_the_exact_neighbours_are_found_where_raw_codes_lose_them(int8):
    codes = int8.encode(DOCUMENTS)
    _, found = int8.search(QUERIES, codes, 10)
    assert after_steps.compute_share(found, EXACT) >= 0.99
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_INNER_PRODUCT)
    index.add(codes)
    ranges = np.vstack([DOCUMENTS.min(0), DOCUMENTS.max(0)])
    results, _ = semantic_search_faiss(
        QUERIES, corpus_index=index, corpus_precision="uint8", ranges=ranges, rescore=False, top_k=10
    )
    raw = np.array([[hit["corpus_id"] for hit in hits] for hits in results])
    assert after_steps.compute_share(raw, EXACT) < 0.5


def test_a_clipped_range_leaves_the_share_out_at_both_ends():
    step = after_steps.fit("int8", Material(DOCUMENTS), clip=0.05)
    codes = step.encode(DOCUMENTS)
    assert np.allclose([(codes == 0).mean(), (codes == 255).mean()], 0.05, atol=0.005)


def test_a_component_without_spread_is_kept():
    documents = DOCUMENTS.copy()
    documents[:, 5] = 0.25
    step = after_steps.fit("int8", Material(documents))
    assert np.allclose(step.decode(step.encode(documents))[:, 5], 0.25)


def test_signs_are_those_of_sentence_transformers():
    step = after_steps.fit("binary", Material(DOCUMENTS), centred=False)
    assert np.array_equal(step.encode(DOCUMENTS), quantize_embeddings(DOCUMENTS, "ubinary"))


def test_signs_of_queries_rank_by_hamming_distance():
    step = after_steps.fit("binary", Material(DOCUMENTS), query="signs")
    bits = [np.unpackbits(step.encode(rows), axis=1) for rows in (QUERIES, DOCUMENTS)]
    distances = (bits[0][:, None] != bits[1][None]).sum(-1)
    assert np.array_equal(step.score(QUERIES, step.encode(DOCUMENTS)), DIM - 2 * distances)


def test_float_queries_find_more_than_signs_of_queries():
    shares = {}
    for query in ("float", "signs"):
        step = after_steps.fit("binary", Material(DOCUMENTS), query=query)
        shares[query] = after_steps.compute_share(step.search(QUERIES, step.encode(DOCUMENTS), 10)[1], EXACT)
    assert shares["float"] > shares["signs"] + 0.03


@pytest.mark.parametrize("query", ["float", "signs"])
def test_rescoring_orders_the_candidates_by_int8_and_reverses_nothing(query):
    step = after_steps.fit("binary", Material(DOCUMENTS), query=query, rescore="int8", candidates=3)
    plain = after_steps.fit("binary", Material(DOCUMENTS), query=query)
    codes = step.encode(DOCUMENTS)
    first_stage = plain.score(QUERIES, plain.encode(DOCUMENTS))
    candidates = after_steps.find_nearest(first_stage, 30)
    truth = QUERIES @ step.decode(codes).T
    scores, ids = step.search(QUERIES, codes, 10)
    for number in range(len(QUERIES)):
        expected = sorted(candidates[number], key=lambda row: (-truth[number, row], row))[:10]
        assert ids[number].tolist() == expected
        assert (np.diff(scores[number]) <= 0).all()
    whole = step.score(QUERIES, codes)
    for number in range(len(QUERIES)):
        rest = np.setdiff1d(np.arange(len(DOCUMENTS)), candidates[number])
        assert whole[number, rest].max() < whole[number, candidates[number]].min()
        order = np.argsort(-first_stage[number, rest], kind="stable")
        assert (np.diff(whole[number, rest][order]) <= 1e-4).all()


def test_centred_signs_stand_for_vectors_of_one_length():
    step = after_steps.fit("binary", Material(3 * DOCUMENTS))
    decoded = step.decode(step.encode(3 * DOCUMENTS))
    assert np.allclose(np.linalg.norm(decoded, axis=1), 3, atol=1e-4)
    plain = after_steps.fit("binary", Material(3 * DOCUMENTS), centred=False)
    scores = plain.score(QUERIES, plain.encode(3 * DOCUMENTS))
    expected = QUERIES @ np.where(DOCUMENTS > 0, 1, -1).T * 3 / np.sqrt(DIM)
    assert np.allclose(scores, expected, atol=1e-4)


def test_centring_pays_where_components_have_means():
    moved = DOCUMENTS + np.float32(0.05)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    exact = after_steps.find_nearest(QUERIES @ moved.T)
    shares = []
    for centred in (True, False):
        step = after_steps.fit("binary", Material(moved), centred=centred)
        shares.append(after_steps.compute_share(step.search(QUERIES, step.encode(moved), 10)[1], exact))
    assert shares[0] > shares[1] + 0.02


def test_more_candidates_find_more_of_the_exact_neighbours():
    shares = []
    for candidates in (1, 4, 16):
        step = after_steps.fit("binary", Material(DOCUMENTS), rescore="int8", candidates=candidates)
        found = step.search(QUERIES, step.encode(DOCUMENTS), 10)[1]
        shares.append(after_steps.compute_share(found, EXACT))
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.97
    assert (step.first_bytes, step.bytes_per_vector) == (32, 288)
