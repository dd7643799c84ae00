"""Heads of shallow layers in closed form, against scikit-learn and the promises of their construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from zoo.text.heads import HeadFit, make_head, narrow_head

WIDTH = 8


@pytest.fixture
def states():
    """Pooled vectors of three layers; the variances of the last layer's components are very unequal."""
    generator = torch.Generator().manual_seed(0)
    last = torch.randn(200, WIDTH, generator=generator) * torch.tensor([8.0, 4, 2, 1, 1, 1, 1, 1])
    shallow = [last @ torch.randn(WIDTH, WIDTH, generator=generator) + 3 for _ in range(2)]
    return [*shallow, last]


def solve(states, **options):
    fit = HeadFit(3, WIDTH, **options)
    for start in (0, 150):  # in two batches of unequal size
        fit.add([vectors[start : start + 150] for vectors in states])
    return fit.solve()


def test_the_last_head_is_a_rotation_which_changes_no_cosine(states):
    weight, bias = solve(states)[3]
    assert bias is None
    torch.testing.assert_close(weight @ weight.T, torch.eye(WIDTH), atol=1e-5, rtol=0)


def test_a_shallow_head_is_the_ridge_regression_to_the_rotated_embeddings(states):
    heads = solve(states)
    targets = F.normalize(states[2], dim=-1) @ heads[3][0].T
    for layer in (1, 2):
        weight, bias = heads[layer]
        vectors = states[layer - 1].double().numpy()
        centred = vectors - vectors.mean(0)
        ridge = Ridge(alpha=1e-2 * np.square(centred).sum(0).mean()).fit(vectors, targets.double().numpy())
        np.testing.assert_allclose(weight, ridge.coef_, atol=1e-4)
        np.testing.assert_allclose(bias, ridge.intercept_, atol=1e-4)


def test_mixing_gives_the_leading_components_similar_sizes(states):
    def spread(heads):
        rotated = F.normalize(states[2], dim=-1) @ heads[3][0].T
        sizes = rotated.square().mean(0)
        return float(sizes.max() / sizes.min())

    assert spread(solve(states, mixed=WIDTH)) < spread(solve(states, mixed=1)) / 4


def test_heads_do_not_depend_on_the_signs_that_the_eigenvectors_come_with(states, monkeypatch):
    heads = solve(states)
    eigh = torch.linalg.eigh

    def flipped_eigh(matrix):
        values, axes = eigh(matrix)
        return values, axes * torch.tensor([1.0, -1.0] * (WIDTH // 2), dtype=matrix.dtype)

    monkeypatch.setattr(torch.linalg, "eigh", flipped_eigh)
    for layer, (weight, _) in solve(states).items():
        torch.testing.assert_close(weight, heads[layer][0])


def test_without_any_text_every_head_is_the_identity():
    for weight, bias in HeadFit(3, WIDTH).solve().values():
        assert torch.equal(weight, torch.eye(WIDTH))
        assert bias is None


def test_a_narrow_head_has_the_first_outputs_as_copies():
    head = make_head(torch.randn(4, WIDTH), torch.randn(4))
    narrow = narrow_head(head, 2)
    vectors = torch.randn(5, WIDTH)
    torch.testing.assert_close(narrow(vectors), head(vectors)[:, :2])
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    assert narrow.weight.abs().min() > 0
    assert narrow.bias.abs().min() > 0
