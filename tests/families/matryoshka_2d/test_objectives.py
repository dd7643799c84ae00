"""The 2D Matryoshka objective and the elastic one, against sums written by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo.families.matryoshka_2d import objectives
from zoo.ops import losses


@pytest.fixture
def layers():
    """Vectors (columns, rows, d) of the last layer and of a shallow one."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 8, 16, generator=generator).requires_grad_() for _ in range(2)]


def test_the_objective_is_the_papers_sum_with_one_width_for_both_layers(layers):
    deep, shallow = layers
    widths = []

    def loss(columns):
        widths.append(columns.shape[-1])
        return losses.compute_contrastive_loss(columns[0], columns[1])

    total = objectives.compute_2dmse(deep, {2: shallow}, 4, loss, {2: 1.0})
    terms = [losses.compute_contrastive_loss(x[0][:, :d], x[1][:, :d]) for x in (deep, shallow) for d in (16, 4)]
    divergence = F.kl_div(
        F.log_softmax(shallow.flatten(0, 1), -1), F.softmax(deep.flatten(0, 1), -1), reduction="batchmean"
    )
    assert total.item() == pytest.approx((sum(terms) + divergence).item(), rel=1e-5)
    assert widths == [16, 4, 16, 4]


@pytest.mark.parametrize("detach", [True, False])
def test_the_kl_term_sends_a_gradient_to_the_last_layer_only_without_detach(layers, detach):
    deep, shallow = layers
    objectives.compute_2dmse(deep, {1: shallow}, 4, lambda x: x.sum() * 0, {1: 1.0}, detach=detach).backward()
    reaches_the_last_layer = bool(deep.grad.abs().sum() > 0)
    assert reaches_the_last_layer is not detach
    assert shallow.grad.abs().sum() > 0


def test_in_the_elastic_objective_a_shallow_layer_follows_the_last_one_without_pulling_it_along(layers):
    deep, shallow = layers
    objectives.compute_elastic(deep, {1: shallow}, (4, 8), lambda x: x.sum() * 0).backward()
    assert deep.grad.abs().sum() == 0
    assert shallow.grad.abs().sum() > 0


def test_the_last_layer_gets_the_same_gradient_with_shallow_layers_as_alone(layers):
    deep, shallow = layers

    def loss(columns):
        return losses.compute_contrastive_loss(columns[0], columns[1])

    (with_shallow,) = torch.autograd.grad(objectives.compute_elastic(deep, {1: shallow}, (4, 8), loss), deep)
    (alone,) = torch.autograd.grad(objectives.compute_elastic(deep, {}, (4, 8), loss), deep)
    assert torch.equal(with_shallow, alone)


def test_the_weights_of_shallow_layers_sum_to_1_and_grow_with_depth():
    assert objectives.compute_shallow_weights([4], 6) == {4: 1.0}
    weights = objectives.compute_shallow_weights([1, 2, 3, 4, 5], 6)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert list(weights.values()) == sorted(weights.values())
    assert weights[5] > weights[1]
