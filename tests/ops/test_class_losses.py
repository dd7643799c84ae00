"""Proto-Triplet and ICNN against the formulas of their authors' code, computed here row by row in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from zoo.ops.icnn import compute_icnn_loss, compute_icnn_score
from zoo.ops.proto_triplet import compute_batch_proto_triplet_loss, compute_proto_triplet_loss, compute_prototypes


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) + 1e-6)


def compute_score_by_hand(vectors, labels, neighbors=4, reach=5):
    """The score of the authors' code for rows that differ, with loops; `reach` is their `ipc`."""
    same_means, other_means, same_count, near_others = [], [], 0, []
    for i, row in enumerate(vectors):
        near = sorted((distance(row, other), j) for j, other in enumerate(vectors) if j != i)[:reach]
        others = [d for d, j in near if labels[j] != labels[i]]
        ratios = [d / (others[0] + 1e-7) if others else 0.0 for d, _ in near[:neighbors]]
        largest = max(1.0, *ratios)
        is_same = [labels[j] == labels[i] for _, j in near[:neighbors]]
        if any(is_same):
            same_means.append(np.mean([r / largest for r, same in zip(ratios, is_same, strict=True) if same]))
        near_others.append([d for (d, _), same in zip(near[:neighbors], is_same, strict=True) if not same])
        same_count += sum(is_same)
    largest = max((d for row in near_others for d in row), default=0.0)
    other_means = [np.mean(row) / largest for row in near_others if row]
    same = 1 - np.mean(same_means) if same_means else 1.0
    other = np.mean(other_means) if other_means else 1.0
    return ((same + other) / 2 + same_count / (neighbors * len(vectors))) / 2


@pytest.fixture
def rows():
    """Vectors (30, 8) of five classes that overlap, and their labels, in a random order."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(6)[torch.randperm(30, generator=generator)]
    means = torch.randn(5, 8, generator=generator)
    return means[labels] + 0.7 * torch.randn(30, 8, generator=generator), labels


@pytest.mark.parametrize("neighbors", [1, 4, 7])
@pytest.mark.parametrize("reach", [8, 15])
def test_icnn_equals_the_authors_formula(neighbors, reach, rows):
    vectors, labels = rows
    by_hand = compute_score_by_hand(vectors.double().numpy(), labels.numpy(), neighbors, reach)
    assert compute_icnn_score(vectors, labels, neighbors, reach).item() == pytest.approx(by_hand, rel=1e-5)
    loss = compute_icnn_loss(vectors, labels, neighbors, reach, normalize=False)
    assert loss.item() == pytest.approx(-math.log(by_hand), rel=1e-4)


def test_icnn_looks_as_far_as_the_largest_class_by_default_and_uses_unit_rows(rows):
    vectors, labels = rows
    unit = torch.nn.functional.normalize(vectors, dim=1)
    by_hand = compute_score_by_hand(unit.double().numpy(), labels.numpy(), reach=6)
    assert compute_icnn_loss(vectors, labels).item() == pytest.approx(-math.log(by_hand), rel=1e-4)
    few = torch.arange(30) // 2
    by_hand = compute_score_by_hand(unit.double().numpy(), few.numpy(), reach=4)
    assert compute_icnn_loss(vectors, few).item() == pytest.approx(-math.log(by_hand), rel=1e-4)
    one_row = compute_icnn_score(vectors, few, neighbors=4, reach=1)
    assert one_row.item() == compute_icnn_score(vectors, few, neighbors=4, reach=4).item()


def test_icnn_is_high_for_two_tight_clusters_and_low_for_random_labels():
    torch.manual_seed(0)
    labels = torch.arange(2).repeat_interleave(10)
    clusters = torch.tensor([[0.0, 0.0], [10.0, 0.0]])[labels] + 0.1 * torch.randn(20, 2)
    assert 0.9 < compute_icnn_score(clusters, labels).item() < 1
    random_scores = [compute_icnn_score(torch.randn(20, 16), labels).item() for _ in range(20)]
    assert np.mean(random_scores) < 0.6
    assert compute_icnn_score(clusters, labels.roll(5)).item() < compute_icnn_score(clusters, labels).item()


def test_icnn_of_classes_out_of_reach_is_1(rows):
    vectors, _ = rows
    labels = torch.zeros(30, dtype=torch.int64)
    assert compute_icnn_score(vectors, labels, reach=5).item() == pytest.approx(1.0, abs=1e-5)
    assert compute_icnn_loss(vectors, labels, reach=5).item() == pytest.approx(0.0, abs=1e-5)


def test_icnn_leaves_the_row_itself_out_also_if_rows_are_equal():
    vectors = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    apart = compute_icnn_score(vectors, torch.tensor([0, 0, 1, 1]), neighbors=1, reach=2)
    assert apart.item() == pytest.approx(((1 - 0.001 + 1) / 2 + 1) / 2, rel=1e-4)
    mixed = compute_icnn_score(vectors, torch.tensor([0, 1, 0, 1]), neighbors=1, reach=1)
    assert mixed.item() == pytest.approx((1 + 1) / 2 / 2, rel=1e-3)


def compute_proto_triplet_by_hand(queries, query_labels, supports, support_labels, margin):
    prototypes = {c: supports[support_labels == c].mean(0) for c in np.unique(support_labels)}
    terms = []
    for z, y in zip(queries, query_labels, strict=True):
        others = [distance(z, p) for c, p in prototypes.items() if c != y]
        if y in prototypes and others:
            terms.append(max(0.0, distance(z, prototypes[y]) - min(others) + margin))
    return np.mean(terms) if terms else 0.0


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
def test_proto_triplet_equals_the_authors_formula(margin, rows):
    vectors, labels = rows
    arguments = (vectors[:14], labels[:14], vectors[14:], labels[14:])
    by_hand = compute_proto_triplet_by_hand(*(part.double().numpy() for part in arguments), margin)
    ours = compute_proto_triplet_loss(*arguments, margin, normalize=False)
    assert ours.item() == pytest.approx(by_hand, rel=1e-5)
    assert compute_proto_triplet_loss(*arguments, normalize=False).item() == pytest.approx(
        compute_proto_triplet_by_hand(*(part.double().numpy() for part in arguments), 0.5), rel=1e-5
    )


def test_the_batch_form_leaves_each_row_out_of_its_own_prototype(rows):
    vectors, labels = rows
    labels = labels.clone()
    labels[3] = 9  # a class of one row is a negative, but no query
    terms = []
    for i in range(30):
        others = torch.arange(30) != i
        if (labels[others] == labels[i]).any():
            episode = (vectors[i : i + 1], labels[i : i + 1], vectors[others], labels[others])
            terms.append(compute_proto_triplet_loss(*episode, 0.5))
    assert len(terms) == 29
    ours = compute_batch_proto_triplet_loss(vectors, labels, 0.5)
    assert ours.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)
    plain = compute_batch_proto_triplet_loss(vectors, labels, 0.5, normalize=False)
    assert plain.item() != pytest.approx(ours.item(), rel=1e-3)


def test_proto_triplet_is_0_if_the_prototypes_are_farther_than_the_margin():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert compute_batch_proto_triplet_loss(vectors, labels).item() == 0.0
    assert compute_batch_proto_triplet_loss(vectors, labels, 2.0).item() == pytest.approx(2 - 2**0.5, abs=0.03)
    assert compute_batch_proto_triplet_loss(vectors, torch.tensor([0, 1, 0, 1])).item() > 1


def test_longer_vectors_do_not_change_a_loss_of_unit_rows(rows):
    vectors, labels = rows
    for loss in (compute_batch_proto_triplet_loss, compute_icnn_loss):
        assert loss(vectors * 50, labels).item() == pytest.approx(loss(vectors, labels).item(), rel=1e-4)


def test_prototypes_are_the_means_of_the_classes(rows):
    vectors, labels = rows
    prototypes, classes = compute_prototypes(vectors, labels * 3 - 4)
    assert classes.tolist() == [-4, -1, 2, 5, 8]
    torch.testing.assert_close(prototypes[1], vectors[labels == 1].mean(0))


LOSSES = {
    "proto-triplet": compute_batch_proto_triplet_loss,
    "episode": lambda vectors, labels: compute_proto_triplet_loss(
        vectors[::2],
        labels[::2],
        vectors[1::2] if len(vectors) > 1 else vectors,
        labels[1::2] if len(labels) > 1 else labels,
    ),
    "icnn": compute_icnn_loss,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["equal", "zero", "one", "two", "one class", "all classes"])
def test_degenerate_rows_have_a_finite_loss_and_gradient(name, case, rows):
    vectors, labels = (part.clone() for part in rows)
    if case == "equal":
        vectors = torch.ones(30, 8)
    elif case == "zero":
        vectors[:10] = 0.0
    elif case in ("one", "two"):
        count = 1 if case == "one" else 2
        vectors, labels = vectors[:count], labels[:count]
    elif case == "one class":
        labels[:] = 3
    else:
        labels = torch.arange(30)
    vectors.requires_grad_()
    loss = LOSSES[name](vectors, labels)
    loss.backward()
    assert loss.isfinite()
    assert vectors.grad.isfinite().all()
    if case == "one":
        assert loss.item() == 0.0


@pytest.mark.parametrize("loss", [compute_batch_proto_triplet_loss, compute_icnn_loss])
def test_the_order_of_the_rows_and_the_names_of_the_classes_do_not_matter(loss, rows):
    vectors, labels = rows
    order = torch.randperm(30)
    renamed = torch.tensor([7, -2, 100, 0, 3])[labels]
    assert loss(vectors[order], renamed[order]).item() == pytest.approx(loss(vectors, labels).item(), rel=1e-5)


@pytest.mark.parametrize("loss", [compute_batch_proto_triplet_loss, compute_icnn_loss])
def test_descent_on_the_loss_brings_classes_together(loss, rows):
    vectors, labels = rows
    vectors = vectors.clone().requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    first = loss(vectors, labels).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(vectors, labels).backward()
        optimizer.step()
    assert loss(vectors, labels).item() < first / 2
