"""The triplet losses against sentence-transformers' values on the same tensors, and on rows where those are not defined."""

from __future__ import annotations

import warnings

import pytest
import torch
from sentence_transformers import losses as st
from torch.nn import functional as F

from zoo.ops import triplet
from zoo.ops.distances import compute_distances, compute_paired_distances
from zoo.ops.triplet import compute_class_triplet_loss, compute_mined_triplet_loss, compute_triplet_loss

METRICS = ["cosine", "euclidean"]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0, 1, 1])


class IdentityModel(torch.nn.Module):
    def forward(self, features):
        return {"sentence_embedding": features}


@pytest.fixture
def columns():
    torch.manual_seed(0)
    return torch.randn(3, 10, 6)


def get_batch_metric(metric):
    functions = st.BatchHardTripletLossDistanceFunction
    return functions.cosine_distance if metric == "cosine" else functions.euclidean_distance


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [0.2, 1.0, 5.0])
def test_triplets_equal_sentence_transformers(metric, margin, columns):
    distance = getattr(st.TripletDistanceMetric, metric.upper())
    theirs = st.TripletLoss(IdentityModel(), distance_metric=distance, triplet_margin=margin)
    ours = compute_triplet_loss(*columns, margin, metric)
    expected = theirs.compute_loss_from_embeddings(list(columns), None)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(
    ("mining", "theirs"),
    [("hard", st.BatchHardTripletLoss), ("semi-hard", st.BatchSemiHardTripletLoss), ("all", st.BatchAllTripletLoss)],
)
def test_class_triplets_equal_sentence_transformers(metric, margin, mining, theirs, columns):
    vectors = columns[0]
    loss = theirs(IdentityModel(), distance_metric=get_batch_metric(metric), margin=margin)
    expected = loss.compute_loss_from_embeddings([vectors], LABELS)
    ours = compute_class_triplet_loss(vectors, LABELS, margin, metric, mining)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_the_soft_margin_of_class_triplets_equals_sentence_transformers(metric, columns):
    theirs = st.BatchHardSoftMarginTripletLoss(IdentityModel(), distance_metric=get_batch_metric(metric))
    expected = theirs.compute_loss_from_embeddings([columns[0]], LABELS)
    ours = compute_class_triplet_loss(columns[0], LABELS, None, metric, "hard")
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mining", ["hard", "semi-hard", "all"])
def test_gradients_equal_sentence_transformers(metric, mining, columns):
    theirs = {"hard": st.BatchHardTripletLoss, "semi-hard": st.BatchSemiHardTripletLoss, "all": st.BatchAllTripletLoss}
    loss = theirs[mining](IdentityModel(), distance_metric=get_batch_metric(metric), margin=0.5)
    gradients = []
    for compute in (
        lambda vectors: loss.compute_loss_from_embeddings([vectors], LABELS),
        lambda vectors: compute_class_triplet_loss(vectors, LABELS, 0.5, metric, mining),
    ):
        vectors = columns[0].clone().requires_grad_()
        compute(vectors).backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_several_negatives_and_missing_ones_are_the_mean_over_the_triplets_that_exist(columns):
    anchors, positives, first = columns
    second = torch.randn(10, 6)
    present = torch.ones(2, 10, dtype=torch.bool)
    present[1, 4:] = False
    ours = compute_triplet_loss(anchors, positives, torch.stack([first, second]), 0.3, present=present)
    own = compute_paired_distances(anchors, positives)
    all_terms = torch.cat(
        [
            F.relu(own - compute_paired_distances(anchors, first) + 0.3),
            F.relu(own - compute_paired_distances(anchors, second) + 0.3)[:4],
        ]
    )
    assert ours.item() == pytest.approx(all_terms.mean().item(), rel=1e-6)


@pytest.mark.parametrize("margin", [0.3, None])
def test_mined_triplets_by_hand(margin, columns):
    anchors, candidates = columns[0], columns[1:].flatten(0, 1)
    mask = torch.rand(10, 20) < 0.5
    distances = 1 - F.normalize(anchors, dim=1) @ F.normalize(candidates, dim=1).T
    by_mining = {"hard": [], "semi-hard": [], "all": []}

    def compute_term(difference):
        return F.softplus(difference) if margin is None else F.relu(difference + margin)

    for i, row in enumerate(distances):
        negatives = sorted(row[j] for j in range(20) if j != i and not mask[i, j])
        outside = [d for d in negatives if d > row[i]]
        by_mining["hard"].append(compute_term(row[i] - negatives[0]))
        by_mining["semi-hard"].append(compute_term(row[i] - (outside[0] if outside else negatives[-1])))
        by_mining["all"] += [term for d in negatives if (term := compute_term(row[i] - d)) > 0]
    for mining, terms in by_mining.items():
        ours = compute_mined_triplet_loss(anchors, candidates, margin, mining=mining, mask=mask)
        assert ours.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_mining_of_triplets_with_one_negative_each_and_all_others_masked_is_the_plain_loss(columns):
    mask = torch.ones(10, 20, dtype=torch.bool)
    mask[torch.arange(10), torch.arange(10, 20)] = False
    for margin in (5.0, None):
        plain = compute_triplet_loss(*columns, margin)
        for mining in ("hard", "semi-hard", "all"):
            ours = compute_mined_triplet_loss(columns[0], columns[1:].flatten(0, 1), margin, mining=mining, mask=mask)
            assert ours.item() == pytest.approx(plain.item(), rel=1e-6)


def test_a_row_without_a_negative_or_a_positive_is_no_anchor(columns):
    anchors, candidates = columns[0], columns[1:].flatten(0, 1)
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[7:] = True
    for mining in ("hard", "semi-hard", "all"):
        masked = compute_mined_triplet_loss(anchors, candidates, mining=mining, mask=mask)
        short = compute_mined_triplet_loss(anchors[:7], candidates, mining=mining, mask=mask[:7])
        assert masked.item() == pytest.approx(short.item(), rel=1e-6)
    labels = torch.tensor([0, 0, 1, 1, 2])  # the last row is a negative of all others, but no anchor
    for mining in ("hard", "semi-hard", "all"):
        distances = compute_distances(anchors[:5], anchors[:5])
        ours = compute_class_triplet_loss(anchors[:5], labels, 10.0, mining=mining)
        by_hand = []
        for i, j in ((0, 1), (1, 0), (2, 3), (3, 2)):
            negatives = distances[i][labels != labels[i]]
            outside = negatives[negatives > distances[i, j]]
            nearest_outside = outside.min() if len(outside) else negatives.max()
            chosen = {"hard": negatives.min(), "semi-hard": nearest_outside, "all": negatives.mean()}[mining]
            by_hand.append(distances[i, j] - chosen + 10)
        assert ours.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [0.2, None])
@pytest.mark.parametrize("rows", ["equal", "zero", "one", "masked"])
def test_degenerate_rows_have_a_finite_loss_and_gradient(metric, margin, rows, columns):
    count = 1 if rows == "one" else 10
    labels = torch.zeros(10, dtype=torch.int64) if rows == "masked" else LABELS
    columns = torch.ones(3, 10, 6) if rows == "equal" else columns.clone()
    if rows == "zero":
        columns[0, :5] = columns[1, 3:] = 0.0
    mask = torch.ones(count, 2 * count, dtype=torch.bool) if rows == "masked" else None
    present = torch.zeros(count, dtype=torch.bool) if rows == "masked" else None
    for mining in ("plain", "hard", "semi-hard", "all", "class hard", "class semi-hard", "class all"):
        vectors = columns[:, :count].clone().requires_grad_()
        anchors, candidates = vectors[0], vectors[1:].flatten(0, 1)
        if mining == "plain":
            loss = compute_triplet_loss(*vectors, margin, metric, present)
        elif mining.startswith("class "):
            loss = compute_class_triplet_loss(anchors, labels[:count], margin, metric, mining.removeprefix("class "))
        else:
            loss = compute_mined_triplet_loss(anchors, candidates, margin, metric, mining, mask)
        loss.backward()
        assert loss.isfinite(), mining
        assert vectors.grad.isfinite().all(), mining
        if rows == "masked":
            assert loss.item() == 0.0, mining
            assert not vectors.grad.any(), mining


@pytest.mark.parametrize("mining", ["hard", "semi-hard", "all"])
def test_the_order_of_the_rows_and_the_length_of_the_vectors_do_not_matter(mining, columns):
    order = torch.randperm(10)
    mined, of_classes = (
        compute_mined_triplet_loss(columns[0], columns[1], mining=mining),
        compute_class_triplet_loss(columns[0], LABELS, mining=mining),
    )
    longer = columns[:, order] * 3
    assert compute_mined_triplet_loss(longer[0], longer[1], mining=mining).item() == pytest.approx(mined.item(), 1e-5)
    ours = compute_class_triplet_loss(longer[0], LABELS[order] + 5, mining=mining)
    assert ours.item() == pytest.approx(of_classes.item(), rel=1e-5)


def test_a_margin_that_is_reached_costs_nothing_but_a_soft_margin_goes_on():
    anchors = positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert compute_mined_triplet_loss(anchors, positives, 0.9).item() == 0.0
    assert compute_mined_triplet_loss(anchors, positives, 1.5).item() == pytest.approx(0.5)
    assert compute_mined_triplet_loss(anchors, positives, None).item() == pytest.approx(
        F.softplus(-torch.ones(1)).item()
    )
    assert triplet.MARGIN == 0.2


def test_distances_agree_with_each_other_and_are_exact_for_near_vectors(columns):
    a, b = columns[0], columns[1]
    for metric in METRICS:
        pairs = compute_distances(a, b, metric).diagonal()
        torch.testing.assert_close(pairs, compute_paired_distances(a, b, metric))
    near = 100 + torch.rand(40, 8)
    exact = compute_distances(near, near.flip(0), "euclidean")
    torch.testing.assert_close(exact, compute_paired_distances(near[:, None], near.flip(0)[None], "euclidean"))


def test_a_negative_as_far_away_as_the_positive_is_not_semi_hard():
    anchors, positives = torch.zeros(1, 1), torch.tensor([[2.0]])
    negatives = torch.tensor([[-2.0], [1.0], [-5.0], [9.0]])
    arguments = (anchors, torch.cat([positives, negatives]), 10.0, "euclidean", "semi-hard")
    assert compute_mined_triplet_loss(*arguments).item() == 2 - 5 + 10
    mask = torch.tensor([[False, False, False, True, True]])
    assert compute_mined_triplet_loss(*arguments, mask).item() == 2 - 2 + 10, "the farthest, if none is farther"
    assert mask.tolist() == [[False, False, False, True, True]]


def test_autocast_does_not_change_the_loss(columns):
    for metric in METRICS:
        exact = compute_mined_triplet_loss(columns[0], columns[1], metric=metric)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(compute_mined_triplet_loss(columns[0], columns[1], metric=metric), exact)


def test_no_warning_is_given(columns):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # searchsorted warns of rows that are not contiguous
        for mining in ("hard", "semi-hard", "all"):
            compute_mined_triplet_loss(columns[0], columns[1], mining=mining)
            compute_class_triplet_loss(columns[0], LABELS, mining=mining)
