"""Fixed-dimensional encodings equal those of fastembed and closed forms, and do not depend on blocks."""

from __future__ import annotations

import numpy as np
import pytest
from token_samples import draw_sets

from zoo.core.errors import ZooError
from zoo.ops import fixed_dimensional, maxsim
from zoo.ops.fixed_dimensional import Cells, draw_cells, encode_documents, encode_queries
from zoo.ops.token_sets import join_token_sets, split_token_sets


def encode_slowly(tokens, cells: Cells, fill, is_query):
    """The definition, token by token and cell by cell."""
    parts = []
    for repetition, directions in enumerate(cells.directions):
        place = [sum(int(token @ directions[:, bit] > 0) << bit for bit in range(cells.bits)) for token in tokens]
        for cell in range(1 << cells.bits):
            own = [token for token, number in zip(tokens, place, strict=True) if number == cell]
            centre = np.sum(own, axis=0) / (1 if is_query else len(own)) if own else np.zeros(tokens.shape[1])
            if not own and fill and len(tokens):
                _, nearest = min(((number ^ cell).bit_count(), number) for number in place)
                centre = tokens[place.index(nearest)]
            parts.append(centre if cells.projections is None else centre @ cells.projections[repetition])
    return np.concatenate(parts)


@pytest.mark.parametrize("bits", [0, 1, 3, 5])
@pytest.mark.parametrize("project", [None, 6])
@pytest.mark.parametrize("fill", [False, True])
def test_encodings_are_those_of_the_definition(bits, project, fill):
    tokens, offsets = draw_sets([1, 40, 0, 7, 2, 90])
    cells = draw_cells(24, repetitions=3, bits=bits, project=project)
    documents, queries = encode_documents(tokens, offsets, cells, fill=fill), encode_queries(tokens, offsets, cells)
    assert documents.shape == queries.shape == (6, cells.width)
    for number, own in enumerate(split_token_sets(tokens.astype(np.float64), offsets)):
        np.testing.assert_allclose(documents[number], encode_slowly(own, cells, fill, False), atol=1e-5)
        np.testing.assert_allclose(queries[number], encode_slowly(own, cells, False, True), atol=1e-5)


@pytest.mark.parametrize(("dim", "bits", "project"), [(24, 5, 16), (24, 3, 24), (128, 4, 16)])
def test_encodings_equal_those_of_fastembed_with_the_same_matrices(dim, bits, project):
    muvera = pytest.importorskip("fastembed.postprocess.muvera")
    tokens, offsets = draw_sets([5, 120, 1, 33], dim)
    cells = draw_cells(dim, repetitions=7, bits=bits, project=project)
    peer = muvera.Muvera(dim, bits, project, 7)
    for own, directions in zip(peer.simhash_projections, cells.directions, strict=True):
        own.simhash_vectors = directions.astype(np.float64)
    if cells.projections is not None:
        peer.dim_reduction_projections = np.sign(cells.projections)
    sets = split_token_sets(tokens.astype(np.float64), offsets)
    expected = [peer.process_document(own) for own in sets]
    np.testing.assert_allclose(encode_documents(tokens, offsets, cells), expected, atol=1e-5)
    np.testing.assert_allclose(
        encode_queries(tokens, offsets, cells), [peer.process_query(own) for own in sets], atol=1e-5
    )


def test_a_single_cell_gives_the_product_of_sum_and_mean():
    queries, documents = draw_sets([4, 9], seed=1), draw_sets([6, 30, 1], seed=2)
    cells = draw_cells(24, repetitions=1, bits=0, project=None)
    found = encode_queries(*queries, cells) @ encode_documents(*documents, cells).T
    sums = [own.sum(0) for own in split_token_sets(*queries)]
    means = [own.mean(0) for own in split_token_sets(*documents)]
    np.testing.assert_allclose(found, np.array(sums) @ np.array(means).T, atol=1e-5)


def test_scores_of_planted_clusters_rank_as_maxsim_does():
    """Queries are near the tokens of one document. Enough cells then separate the clusters of tokens."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 6, 32))
    documents = join_token_sets(list(centres / np.linalg.norm(centres, axis=2, keepdims=True)), 32)
    noisy = centres + 0.1 * rng.normal(size=centres.shape)
    queries = join_token_sets(list(noisy / np.linalg.norm(noisy, axis=2, keepdims=True)), 32)
    cells = draw_cells(32, repetitions=20, bits=4, project=16)
    estimate = encode_queries(*queries, cells) @ encode_documents(*documents, cells).T / 20
    exact = maxsim.compute_maxsim(queries, documents)
    assert (estimate.argmax(1) == exact.argmax(1)).all()
    assert np.abs(np.diagonal(estimate) - np.diagonal(exact)).mean() < 0.25 * np.diagonal(exact).mean()


@pytest.mark.parametrize("fill", [False, True])
def test_an_encoding_does_not_depend_on_the_other_sets(fill, monkeypatch):
    tokens, offsets = draw_sets([3, 200, 0, 17, 1, 64, 5], 96)
    cells = draw_cells(96, repetitions=8, bits=4)
    together = encode_documents(tokens, offsets, cells, fill=fill)
    for own, expected in zip(split_token_sets(tokens, offsets), together, strict=True):
        alone = encode_documents(own, np.array([0, len(own)]), cells, fill=fill)[0]
        np.testing.assert_allclose(alone, expected, atol=1e-6)
    monkeypatch.setattr(fixed_dimensional, "BLOCK_TOKENS", 50)
    monkeypatch.setattr(fixed_dimensional, "BLOCK_NUMBERS", 1)
    np.testing.assert_allclose(encode_documents(tokens, offsets, cells, fill=fill), together, atol=1e-6)


def test_the_seed_decides_the_matrices_in_every_version_of_numpy():
    cells, again, other = draw_cells(8, seed=7), draw_cells(8, seed=7), draw_cells(8, seed=8)
    np.testing.assert_array_equal(cells.directions, again.directions)
    np.testing.assert_array_equal(cells.projections, again.projections)
    assert (cells.directions != other.directions).any()
    assert fixed_dimensional.GENERATOR == "philox-1"
    np.testing.assert_allclose(
        cells.directions[0, :2].ravel(), PINNED, rtol=1e-5, err_msg="another stream needs another name of the generator"
    )


PINNED = [-0.698572, 0.594444, 1.004965, -0.838947, -0.0878193, 1.54134, -0.46420, 1.28804]


def test_directions_are_normal_and_projections_are_signs():
    cells = draw_cells(64, repetitions=50, bits=4, project=16)
    assert abs(cells.directions.mean()) < 0.03
    assert abs(cells.directions.std() - 1) < 0.03
    assert set(np.unique(cells.projections * 4)) == {-1.0, 1.0}
    assert abs(cells.projections.mean() * 4) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 13}, "bits: 13 planes make 8,192 cells"),
        ({"repetitions": 0}, "repetitions: 0 is too small"),
        ({"project": 0}, "project: 0 is too small"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ZooError, match=message):
        draw_cells(8, **options)


def test_tokens_of_another_width_are_refused():
    with pytest.raises(ZooError, match="24 components, but the cells are for 8"):
        encode_queries(*draw_sets([3]), draw_cells(8))
