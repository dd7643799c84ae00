"""Pooled sets are smaller, keep the protected tokens, and merge tokens that are alike."""

from __future__ import annotations

import numpy as np
import pytest
from token_samples import draw_sets

from zoo.core.errors import ZooError
from zoo.ops.token_pooling import pool_tokens
from zoo.ops.token_sets import join_token_sets, split_token_sets


def test_copies_of_a_few_vectors_become_these_vectors():
    distinct, _ = draw_sets([4], 16)
    first, copies = distinct[:1], np.repeat(distinct[1:], 3, axis=0)
    noisy = copies + 1e-3 * np.random.default_rng(0).normal(size=copies.shape)
    pooled, offsets = pool_tokens(join_token_sets([np.concatenate([first, noisy])], 16), 3)
    assert offsets.tolist() == [0, 4]
    np.testing.assert_array_equal(pooled[0], first[0].astype(np.float32))
    cosines = pooled[1:] @ distinct[1:].T
    assert (np.sort(cosines.max(1)) > 0.999).all()
    assert sorted(cosines.argmax(1)) == [0, 1, 2]


@pytest.mark.parametrize("factor", [1, 1.5, 2, 4])
def test_every_set_shrinks_by_the_factor_and_has_unit_vectors(factor):
    lengths = [1, 0, 9, 40]
    pooled, offsets = pool_tokens(draw_sets(lengths), factor)
    expected = [length if length < 2 else 1 + max(1, int((length - 1) // factor)) for length in lengths]
    assert np.diff(offsets).tolist() == expected
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)


def test_a_set_is_pooled_for_itself():
    tokens, offsets = draw_sets([9, 30, 12])
    together = split_token_sets(*pool_tokens((tokens, offsets), 2))
    for own, expected in zip(split_token_sets(tokens, offsets), together, strict=True):
        np.testing.assert_array_equal(pool_tokens((own, np.array([0, len(own)])), 2)[0], expected)


def test_a_factor_below_one_is_refused():
    with pytest.raises(ZooError, match="pool_factor: 0.5 is below 1"):
        pool_tokens(draw_sets([3]), 0.5)
