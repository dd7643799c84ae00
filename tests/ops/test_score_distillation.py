"""Distillation from scores against sentence-transformers' values on the same tensors."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import losses as st
from sentence_transformers import util

from zoo.ops.distillation import compute_candidate_scores, compute_kl_loss, compute_margin_mse_loss

SIMILARITIES = [("dot", util.pairwise_dot_score), ("cosine", util.pairwise_cos_sim)]


class IdentityModel(torch.nn.Module):
    def forward(self, features):
        return {"sentence_embedding": features}


@pytest.fixture
def columns():
    """Vectors of anchors, positives and three columns of negatives."""
    torch.manual_seed(0)
    return torch.randn(5, 7, 8)


@pytest.fixture
def teacher_scores():
    torch.manual_seed(1)
    return torch.randn(7, 4) * 5 + 2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("name", "similarity"), SIMILARITIES)
def test_margin_mse_equals_sentence_transformers(count, name, similarity, columns, teacher_scores):
    columns, teacher_scores = columns[: 2 + count], teacher_scores[:, : 1 + count]
    theirs = st.MarginMSELoss(IdentityModel(), similarity_fct=similarity)
    expected = theirs.compute_loss_from_embeddings(list(columns), teacher_scores)
    scores = compute_candidate_scores(columns[0], columns[1:], name)
    assert compute_margin_mse_loss(scores, teacher_scores).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("teacher_temperature", [None, 2.0])
@pytest.mark.parametrize(("name", "similarity"), SIMILARITIES)
def test_kl_equals_sentence_transformers(
    count, temperature, teacher_temperature, name, similarity, columns, teacher_scores
):
    columns, teacher_scores = columns[: 2 + count], teacher_scores[:, : 1 + count]
    theirs = st.DistillKLDivLoss(
        IdentityModel(), similarity, temperature=temperature, teacher_temperature=teacher_temperature
    )
    expected = theirs.compute_loss_from_embeddings(list(columns), teacher_scores)
    scores = compute_candidate_scores(columns[0], columns[1:], name)
    ours = compute_kl_loss(scores, teacher_scores, temperature, teacher_temperature)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_gradients_equal_sentence_transformers(loss, columns, teacher_scores):
    gradients = []
    for is_ours in (True, False):
        vectors = columns.clone().requires_grad_()
        scores = compute_candidate_scores(vectors[0], vectors[1:], "dot")
        if loss == "kl":
            theirs, ours = (
                st.DistillKLDivLoss(IdentityModel(), temperature=2.0),
                compute_kl_loss(scores, teacher_scores, 2.0),
            )
        else:
            theirs, ours = st.MarginMSELoss(IdentityModel()), compute_margin_mse_loss(scores, teacher_scores)
        (ours if is_ours else theirs.compute_loss_from_embeddings(list(vectors), teacher_scores)).backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_scale_multiplies_the_scores_and_autocast_does_not_change_them(columns):
    for name in ("dot", "cosine"):
        scores = compute_candidate_scores(columns[0], columns[1:], name)
        assert scores.shape == (7, 4)
        assert scores[2, 3].item() == pytest.approx(
            dict(SIMILARITIES)[name](columns[0, 2:3], columns[4, 2:3]).item(), rel=1e-5
        )
        torch.testing.assert_close(compute_candidate_scores(columns[0], columns[1:], name, 20.0), scores * 20)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(compute_candidate_scores(columns[0], columns[1:], name), scores)


@pytest.mark.parametrize("loss", [compute_margin_mse_loss, compute_kl_loss])
def test_a_student_that_has_the_teachers_scores_up_to_a_constant_of_the_row_has_no_loss(loss, teacher_scores):
    shifted = teacher_scores + torch.randn(7, 1)
    assert loss(shifted, teacher_scores).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(shifted * 1.5, teacher_scores).item() > 0.01


@pytest.mark.parametrize("loss", [compute_margin_mse_loss, compute_kl_loss])
def test_missing_negatives_do_not_count_whatever_their_scores_are(loss, columns, teacher_scores):
    scores = compute_candidate_scores(columns[0], columns[1:])
    present = torch.ones(7, 4, dtype=torch.bool)
    present[:, 3] = False
    damaged = [scores.clone(), teacher_scores.clone()]
    damaged[0][:, 3], damaged[1][:, 3] = torch.nan, torch.inf
    few = loss(scores[:, :3], teacher_scores[:, :3]).item()
    assert loss(*damaged, present=present).item() == pytest.approx(few, rel=1e-5)
    present[2:, 1:] = False  # rows without negatives count nowhere
    two_rows = loss(scores[:2, :3], teacher_scores[:2, :3]).item()
    assert loss(scores, teacher_scores, present=present).item() == pytest.approx(two_rows, rel=1e-5)


@pytest.mark.parametrize("loss", [compute_margin_mse_loss, compute_kl_loss])
@pytest.mark.parametrize("rows", ["equal", "zero", "one", "masked", "far apart", "without negatives"])
def test_degenerate_rows_have_a_finite_loss_and_gradient(loss, rows, columns, teacher_scores):
    columns, present = columns.clone(), None
    if rows == "equal":
        columns, teacher_scores = torch.ones(5, 7, 8), torch.ones(7, 4)
    elif rows == "zero":
        columns[0, :3] = columns[1:, 4:] = 0.0
    elif rows == "one":
        columns, teacher_scores = columns[:, :1], teacher_scores[:1]
    elif rows == "masked":
        present = torch.zeros(7, 4, dtype=torch.bool)
    elif rows == "far apart":
        teacher_scores = teacher_scores * 1e4
    else:
        columns, teacher_scores = columns[:2], teacher_scores[:, :1]
    vectors = columns.clone().requires_grad_()
    value = loss(compute_candidate_scores(vectors[0], vectors[1:]), teacher_scores, present=present)
    value.backward()
    assert value.isfinite()
    assert vectors.grad.isfinite().all()
    if rows in ("masked", "without negatives"):
        assert value.item() == 0.0
        assert not vectors.grad.any()


@pytest.mark.parametrize("loss", [compute_margin_mse_loss, compute_kl_loss])
def test_the_order_of_rows_and_negatives_does_not_matter_and_the_teacher_gets_no_gradient(
    loss, columns, teacher_scores
):
    scores, teacher_scores = compute_candidate_scores(columns[0], columns[1:]), teacher_scores.requires_grad_()
    value = loss(scores.requires_grad_(), teacher_scores)
    value.backward()
    assert teacher_scores.grad is None
    rows, candidates = torch.randperm(7), torch.tensor([0, 3, 1, 2])
    ours = loss(scores[rows][:, candidates], teacher_scores[rows][:, candidates])
    assert ours.item() == pytest.approx(value.item(), rel=1e-5)
