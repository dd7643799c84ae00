"""Similarities of vectors and of packed codes against closed forms, from arrays, tensors and lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.core.errors import ZooError
from zoo.ops.similarity import compute_pairwise_similarities, compute_similarities

A, B = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[4.0, 3.0], [-1.0, 0.0], [1.0, 1.0]])
COSINES = A @ B.T / np.linalg.norm(A, axis=1)[:, None] / np.linalg.norm(B, axis=1)
FORMS = {
    "array": np.asarray,
    "tensor": torch.as_tensor,
    "list of lists": lambda rows: rows.tolist(),
    "list of tensors": lambda rows: list(torch.as_tensor(rows)),
    "tuple of tensors": lambda rows: tuple(torch.as_tensor(rows)),
    "list of arrays": list,
    "float16": lambda rows: rows.astype(np.float16),
}


@pytest.mark.parametrize("right", FORMS)
@pytest.mark.parametrize("left", FORMS)
def test_cosines_are_those_of_every_pair_in_any_form(left, right):
    cosines = compute_similarities("cosine", FORMS[left](A), FORMS[right](B))
    assert cosines.dtype == torch.float32
    np.testing.assert_allclose(cosines, COSINES, atol=1e-6)
    pairs = compute_pairwise_similarities("cosine", FORMS[left](A), FORMS[right](B[:2]))
    assert pairs.shape == (2,)
    np.testing.assert_allclose(pairs, COSINES[[0, 1], [0, 1]], atol=1e-6)


def test_one_vector_is_one_row():
    np.testing.assert_allclose(compute_similarities("cosine", A[0], B), COSINES[:1], atol=1e-6)
    np.testing.assert_allclose(compute_similarities("cosine", A, list(B[1])), COSINES[:, 1:2], atol=1e-6)
    np.testing.assert_allclose(compute_pairwise_similarities("cosine", A[0], B[0]), COSINES[0, :1], atol=1e-6)
    assert compute_similarities("cosine", np.zeros((0, 2)), B).shape == (0, 3)


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, lambda codes: list(torch.as_tensor(codes))])
def test_codes_have_the_negative_number_of_different_bits(form):
    draw = np.random.default_rng(0)
    left, right = (draw.integers(0, 256, (rows, 40), dtype=np.uint8) for rows in (3, 4))
    bits = [np.unpackbits(codes, axis=1) for codes in (left, right)]
    distances = (bits[0][:, None] != bits[1][None]).sum(2)
    similarities = compute_similarities("hamming", form(left), form(right))
    assert similarities.dtype == torch.float32
    assert similarities.tolist() == (-distances).tolist()
    pairs = compute_pairwise_similarities("hamming", form(left), form(right[:3]))
    assert pairs.dtype == torch.float32
    assert pairs.tolist() == (-np.diag(distances)).tolist()
    far = compute_pairwise_similarities("hamming", np.zeros((1, 40), np.uint8), np.full((1, 40), 255, np.uint8))
    assert far.tolist() == [-320], "a count beyond 255"


@pytest.mark.parametrize("compute", [compute_similarities, compute_pairwise_similarities])
@pytest.mark.parametrize("is_left", [True, False])
def test_what_is_no_vector_is_named(compute, is_left):
    def refuse(vectors, message, name="cosine", other=A):
        with pytest.raises(ZooError, match=message):
            compute(name, *((vectors, other) if is_left else (other, vectors)))

    refuse(["a text", "another"], "similarities are computed of vectors, not of list: encode texts first")
    refuse("a text", "not of str: encode texts first")
    refuse(None, "not of NoneType: encode texts first")
    refuse(np.zeros((1, 2, 2)), r"of vectors \(n, d\), not of an array of shape \(1, 2, 2\)")
    refuse(np.float32(3), r"not of an array of shape \(\)")
    codes = np.zeros((2, 2), np.uint8)
    refuse(A, r"of packed uint8 codes, not of torch\.float64: take what `encode` gives", "hamming", codes)
    widths = "3 and 2" if is_left else "2 and 3"
    refuse(np.zeros((2, 3)), f"the two sides have vectors of {widths} components; use one encoder")


def test_pairs_need_as_many_rows_on_both_sides():
    with pytest.raises(ZooError, match="pairs need as many rows on both sides, not 2 and 3"):
        compute_pairwise_similarities("cosine", A, B)
    with pytest.raises(ZooError, match="pairs need as many rows on both sides, not 1 and 2"):
        compute_pairwise_similarities("hamming", np.zeros((1, 2), np.uint8), np.zeros((2, 2), np.uint8))
