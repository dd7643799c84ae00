"""The losses against other libraries' values and closed forms."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import losses as st
from torch.nn import functional as F

from zoo.families.matryoshka_2d import objectives
from zoo.ops import losses


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(8, 16), torch.randn(8, 16), torch.rand(8)


class _Given(torch.nn.Module):
    """A sentence-transformers model that puts out what it is given."""

    def forward(self, features):
        return {"sentence_embedding": features}


@pytest.mark.parametrize(("ours", "theirs"), [(losses.cosent, st.CoSENTLoss), (losses.angle, st.AnglELoss)])
def test_ranking_losses_equal_sentence_transformers(ours, theirs, pair):
    a, b, scores = pair
    expected = theirs(_Given(), scale=20.0).compute_loss_from_embeddings([a, b], scores)
    assert ours(a, b, scores, 20.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_contrastive_equals_sentence_transformers_with_hard_negatives(pair):
    a, b, _ = pair
    negative = torch.randn(8, 16)
    expected = st.MultipleNegativesRankingLoss(_Given()).compute_loss_from_embeddings([a, b, negative], None)
    assert losses.contrastive(a, torch.cat([b, negative])).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_perfect_order_costs_nothing_and_a_wrong_one_its_margin():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert losses.cosent(a, b, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.cosent(a, b, torch.tensor([0.0, 1.0])).item() == pytest.approx(20.0, abs=1e-4)
    assert losses.cosent(a, b, torch.tensor([1.0, 1.0])).item() == 0.0


def test_alignment_is_the_divergence_of_the_softmaxes_and_dies_on_unit_vectors(pair):
    a, b, _ = pair
    p, q = torch.softmax(a / 2, -1), torch.softmax(b / 2, -1)
    by_hand = 4 * (p * (p / q).log()).sum(-1).mean()
    assert losses.alignment(a, b, temperature=2.0).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert losses.alignment(a, a).item() == pytest.approx(0.0, abs=1e-6)
    unit = losses.alignment(F.normalize(a, dim=-1), F.normalize(b, dim=-1))
    assert unit < losses.alignment(a, b) / 10


def test_autocast_leaves_the_losses_exact(pair):
    a, b, scores = pair
    for loss in (
        lambda: losses.contrastive(a, b),
        lambda: losses.relations(a, b),
        lambda: losses.alignment(a, b),
        lambda: losses.cosent(a, b, scores),
        lambda: losses.angle(a, b, scores),
    ):
        exact = loss()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(), exact)


def test_relations_compare_spaces_of_different_width(pair):
    a, _, _ = pair
    turned = a @ torch.linalg.qr(torch.randn(16, 16)).Q
    assert losses.relations(a, turned).item() == pytest.approx(0.0, abs=1e-5)
    assert losses.relations(a, a[:, :4]).item() > 0.01


def test_the_objective_is_the_papers_sum_with_one_width_for_both_layers(pair):
    deep, shallow = torch.randn(2, 8, 16, requires_grad=True), torch.randn(2, 8, 16, requires_grad=True)
    seen = []

    def loss(columns):
        seen.append(columns.shape[-1])
        return losses.contrastive(columns[0], columns[1])

    total = objectives.compute_2dmse(deep, {2: shallow}, 4, loss, {2: 1.0})
    parts = [losses.contrastive(x[0][:, :d], x[1][:, :d]) for x in (deep, shallow) for d in (16, 4)]
    divergence = F.kl_div(
        F.log_softmax(shallow.flatten(0, 1), -1), F.softmax(deep.flatten(0, 1), -1), reduction="batchmean"
    )
    assert total.item() == pytest.approx((sum(parts) + divergence).item(), rel=1e-5)
    assert seen == [16, 4, 16, 4]


@pytest.mark.parametrize("detach", [True, False])
def test_the_kl_term_reaches_its_teacher_only_when_asked(detach):
    deep, shallow = torch.randn(2, 8, 16, requires_grad=True), torch.randn(2, 8, 16, requires_grad=True)
    objectives.compute_2dmse(deep, {1: shallow}, 4, lambda x: x.sum() * 0, {1: 1.0}, detach=detach).backward()
    assert (deep.grad.abs().sum() > 0) is not detach or detach is (deep.grad.abs().sum() == 0).item()
    assert shallow.grad.abs().sum() > 0


def test_shallow_weights():
    assert objectives.compute_shallow_weights([4], 6) == {4: 1.0}
    weights = objectives.compute_shallow_weights([1, 2, 3, 4, 5], 6)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert list(weights.values()) == sorted(weights.values())
