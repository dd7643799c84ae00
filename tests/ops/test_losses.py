"""The losses against other libraries' values and closed forms."""

from __future__ import annotations

import warnings

import pytest
import torch
from sentence_transformers import losses as st
from torch.nn import functional as F

from zoo.ops import losses


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(8, 16), torch.randn(8, 16), torch.rand(8)


class IdentityModel(torch.nn.Module):
    """A sentence-transformers model that returns its input."""

    def forward(self, features):
        return {"sentence_embedding": features}


@pytest.mark.parametrize(
    ("ours", "theirs"), [(losses.compute_cosent_loss, st.CoSENTLoss), (losses.compute_angle_loss, st.AnglELoss)]
)
def test_ranking_losses_equal_sentence_transformers(ours, theirs, pair):
    a, b, scores = pair
    expected = theirs(IdentityModel(), scale=20.0).compute_loss_from_embeddings([a, b], scores)
    assert ours(a, b, scores, 20.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_contrastive_equals_sentence_transformers_with_hard_negatives(pair):
    a, b, _ = pair
    negative = torch.randn(8, 16)
    expected = st.MultipleNegativesRankingLoss(IdentityModel()).compute_loss_from_embeddings([a, b, negative], None)
    assert losses.compute_contrastive_loss(a, torch.cat([b, negative])).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_cosent_is_0_for_the_right_order_and_the_scaled_margin_for_a_wrong_one():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert losses.compute_cosent_loss(a, b, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.compute_cosent_loss(a, b, torch.tensor([0.0, 1.0])).item() == pytest.approx(20.0, abs=1e-4)
    assert losses.compute_cosent_loss(a, b, torch.tensor([1.0, 1.0])).item() == 0.0


def test_alignment_is_the_divergence_of_the_softmaxes_and_nearly_vanishes_on_unit_vectors(pair):
    a, b, _ = pair
    p, q = torch.softmax(a / 2, -1), torch.softmax(b / 2, -1)
    by_hand = 4 * (p * (p / q).log()).sum(-1).mean()
    assert losses.compute_alignment_loss(a, b, temperature=2.0).item() == pytest.approx(by_hand.item(), rel=1e-5)
    by_hand = 9 * F.kl_div(F.log_softmax(b / 3, -1), F.softmax(a / 3, -1), reduction="batchmean")
    assert losses.compute_alignment_loss(a, b, temperature=3.0).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert losses.compute_alignment_loss(a, a).item() == pytest.approx(0.0, abs=1e-6)
    unit = losses.compute_alignment_loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1))
    assert unit < losses.compute_alignment_loss(a, b) / 10


def test_the_alignment_loss_names_its_dimensions(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns if it has to guess
        losses.compute_alignment_loss(*pair[:2])
        losses.compute_relational_loss(*pair[:2])


def test_autocast_does_not_change_the_losses(pair):
    a, b, scores = pair
    for loss in (
        lambda: losses.compute_contrastive_loss(a, b),
        lambda: losses.compute_relational_loss(a, b),
        lambda: losses.compute_alignment_loss(a, b),
        lambda: losses.compute_cosent_loss(a, b, scores),
        lambda: losses.compute_angle_loss(a, b, scores),
    ):
        exact = loss()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(), exact)


def test_the_relational_loss_compares_spaces_of_different_width_up_to_rotation(pair):
    a, _, _ = pair
    rotated = a @ torch.linalg.qr(torch.randn(16, 16)).Q
    assert losses.compute_relational_loss(a, rotated).item() == pytest.approx(0.0, abs=1e-5)
    assert losses.compute_relational_loss(a, a[:, :4]).item() > 0.01


@pytest.mark.parametrize("scale", [20.0, 3.0])
def test_the_relational_loss_is_the_divergence_of_the_rows_of_cosines_without_the_diagonal(pair, scale):
    teacher, student = pair[0], pair[1][:, :5]
    divergences = []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        p, q = (
            torch.softmax(scale * F.cosine_similarity(vectors[i][None], vectors[others]), 0)
            for vectors in (teacher, student)
        )
        divergences.append((p * (p / q).log()).sum())
    by_hand = pytest.approx(torch.stack(divergences).mean().item(), rel=1e-4)
    assert losses.compute_relational_loss(teacher, student, scale).item() == by_hand


def test_the_scale_is_20_and_the_temperature_1_by_default(pair):
    a, b, scores = pair
    for loss, inputs in (
        (losses.compute_contrastive_loss, (a, b)),
        (losses.compute_cosent_loss, (a, b, scores)),
        (losses.compute_angle_loss, (a, b, scores)),
        (losses.compute_relational_loss, (a, b)),
    ):
        assert torch.equal(loss(*inputs), loss(*inputs, 20.0))
        assert not torch.equal(loss(*inputs), loss(*inputs, 21.0))
    assert torch.equal(losses.compute_alignment_loss(a, b), losses.compute_alignment_loss(a, b, 1.0))


def test_angle_is_without_the_in_batch_term_and_weighs_the_others_equally_by_default(pair):
    a, b, scores = pair
    by_hand = losses.compute_cosent_loss(a, b, scores, 7.0) + losses.compute_angle_loss(a, b, scores, 7.0)
    assert losses.compute_sentence_loss(torch.stack([a, b]), scores, "angle", 7.0).item() == pytest.approx(
        by_hand.item()
    )
    columns = torch.stack([a, b])
    contrastive = losses.compute_sentence_loss(columns, None, "contrastive", 7.0)
    assert torch.equal(contrastive, losses.compute_contrastive_loss(a, b, 7.0))
    in_batch = losses.compute_sentence_loss(columns, torch.ones(8), "angle", 7.0, (0.0, 1.0, 0.0))
    assert torch.equal(in_batch, contrastive), "pairs of one score are all positives, and have no order"


def test_the_losses_of_a_recipe_are_the_single_losses_with_their_weights(pair):
    a, b, scores = pair
    negatives = torch.randn(8, 16)
    columns = torch.stack([a, b, negatives])
    assert torch.equal(
        losses.compute_sentence_loss(columns, None, "contrastive", 20.0),
        losses.compute_contrastive_loss(a, torch.cat([b, negatives])),
    )
    columns = torch.stack([a, b])
    assert torch.equal(
        losses.compute_sentence_loss(columns, scores, "cosent", 20.0), losses.compute_cosent_loss(a, b, scores)
    )
    weighted = losses.compute_sentence_loss(columns, scores, "angle", 20.0, (0.5, 0.0, 2.0))
    by_hand = 0.5 * losses.compute_cosent_loss(a, b, scores) + 2 * losses.compute_angle_loss(a, b, scores)
    assert weighted.item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_only_pairs_with_the_best_score_are_positives_of_the_in_batch_term(pair):
    a, b, _ = pair
    scores = torch.tensor([1.0, 0.2, 1.0, 0.5, 1.0, 0.0, 0.9, 0.1])
    with_term = losses.compute_sentence_loss(torch.stack([a, b]), scores, "angle", 20.0, (1.0, 0.7, 1.0))
    without = losses.compute_sentence_loss(torch.stack([a, b]), scores, "angle", 20.0)
    best = [0, 2, 4]
    term = losses.compute_contrastive_loss(a[best], b[best])
    assert (with_term - without).item() == pytest.approx(0.7 * term.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["cosent", "angle"])
def test_a_ranking_loss_without_scores_is_refused(kind, pair):
    with pytest.raises(ValueError, match=f"the loss '{kind}' needs scores"):
        losses.compute_sentence_loss(torch.stack(pair[:2]), None, kind, 20.0)


@pytest.mark.parametrize("count", [1, 2])
def test_the_symmetric_loss_equals_sentence_transformers_with_two_directions(count, pair):
    a, b, _ = pair
    negatives = [torch.randn(8, 16) for _ in range(count)]
    theirs = st.MultipleNegativesRankingLoss(
        IdentityModel(), directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    expected = theirs.compute_loss_from_embeddings([a, b, *negatives], None)
    ours = losses.compute_contrastive_loss(a, torch.cat([b, *negatives]), symmetric=True)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    columns = torch.stack([a, b, *negatives])
    assert torch.equal(losses.compute_sentence_loss(columns, None, "contrastive", 20.0, symmetric=True), ours)


def test_the_symmetric_loss_without_hard_negatives_does_not_change_if_the_sides_are_swapped(pair):
    a, b, _ = pair
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, 3] = mask[5, 2] = True
    ours = losses.compute_contrastive_loss(a, b, mask=mask, symmetric=True)
    assert ours.item() == pytest.approx(
        losses.compute_contrastive_loss(b, a, mask=mask.T, symmetric=True).item(), rel=1e-6
    )
    assert losses.compute_contrastive_loss(a, b).item() != pytest.approx(losses.compute_contrastive_loss(b, a).item())


def test_a_false_negative_is_masked_in_both_directions(pair):
    a, b, _ = pair
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, 3] = True
    cosines = losses.compute_cosines(a, b) * 20
    cosines[0, 3] = -torch.inf
    by_hand = (cosines.logsumexp(1) + cosines.logsumexp(0)).mean() / 2 - cosines.diagonal().mean()
    ours = losses.compute_contrastive_loss(a, b, mask=mask, symmetric=True)
    assert ours.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_positive_is_never_masked_so_a_row_whose_candidates_are_all_masked_costs_nothing(symmetric, pair):
    a, b = (rows.clone().requires_grad_() for rows in pair[:2])
    loss = losses.compute_contrastive_loss(a, b, mask=torch.ones(8, 8, dtype=torch.bool), symmetric=symmetric)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_the_mask_of_the_caller_is_not_changed(pair):
    mask = torch.ones(8, 8, dtype=torch.bool)
    losses.compute_contrastive_loss(*pair[:2], mask=mask)
    assert mask.all()


def test_angle_takes_an_odd_width_as_sentence_transformers_does(pair):
    a, b, scores = pair[0][:, :7], pair[1][:, :7], pair[2]
    expected = st.AnglELoss(IdentityModel()).compute_loss_from_embeddings([a, b], scores)
    assert losses.compute_angle_loss(a, b, scores).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.compute_cosent_loss, losses.compute_angle_loss])
@pytest.mark.parametrize("rows", ["zero", "equal", "one"])
def test_ranking_losses_of_degenerate_rows_have_a_finite_gradient(loss, rows, pair):
    a, b, scores = (rows.clone() for rows in pair)
    if rows == "zero":
        a[2], b[3], a[4], b[4] = 0.0, 0.0, 0.0, 0.0
    elif rows == "equal":
        a, b = a[:1].expand(8, 16).clone(), a[:1].expand(8, 16).clone()
    else:
        a, b, scores = a[:1], b[:1], scores[:1]
    value = loss(a.requires_grad_(), b.requires_grad_(), scores)
    value.backward()
    assert value.isfinite()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


@pytest.mark.parametrize("loss", [losses.compute_cosent_loss, losses.compute_angle_loss])
def test_ranking_losses_do_not_depend_on_the_order_of_the_rows_or_the_unit_of_the_scores(loss, pair):
    a, b, scores = pair
    order = torch.randperm(8)
    assert loss(a[order], b[order], scores[order]).item() == pytest.approx(loss(a, b, scores).item(), rel=1e-5)
    assert loss(a, b, scores * 7 - 100).item() == pytest.approx(loss(a, b, scores).item(), rel=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_of_the_contrastive_loss_equal_sentence_transformers(symmetric, pair):
    options = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if symmetric else {}
    theirs = st.MultipleNegativesRankingLoss(IdentityModel(), **options)
    columns = [*pair[:2], torch.randn(8, 16)]
    gradients = []
    for compute in (
        lambda a, b, c: theirs.compute_loss_from_embeddings([a, b, c], None),
        lambda a, b, c: losses.compute_contrastive_loss(a, torch.cat([b, c]), symmetric=symmetric),
    ):
        vectors = [column.clone().requires_grad_() for column in columns]
        compute(*vectors).backward()
        gradients.append(torch.stack([column.grad for column in vectors]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["cosent", "angle"])
def test_gradients_of_the_ranking_losses_equal_sentence_transformers(loss, pair):
    ours, theirs = {
        "cosent": (losses.compute_cosent_loss, st.CoSENTLoss),
        "angle": (losses.compute_angle_loss, st.AnglELoss),
    }[loss]
    gradients = []
    for compute in (
        ours,
        lambda a, b, scores: theirs(IdentityModel()).compute_loss_from_embeddings([a, b], scores),
    ):
        vectors = [column.clone().requires_grad_() for column in pair[:2]]
        compute(*vectors, pair[2]).backward()
        gradients.append(torch.stack([column.grad for column in vectors]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
