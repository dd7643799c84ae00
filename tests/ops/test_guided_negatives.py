"""Candidates that a guide finds about as good as the positive are masked, as sentence-transformers' GIST losses do it."""

from __future__ import annotations

import itertools

import pytest
import tiny
import torch
from sentence_transformers import losses as st

from zoo.ops.false_negatives import false_negative_mask
from zoo.ops.guided_negatives import compute_guide_mask, mask_guided_negatives
from zoo.ops.losses import compute_contrastive_loss, compute_cosines

ROWS, TEMPERATURE = 6, 0.05


class LookUp(torch.nn.Module):
    """A sentence-transformers model whose features are vectors: those of the student, or those of the guide."""

    def __init__(self, name):
        super().__init__()
        self.name, self.tokenizer, self.max_seq_length = name, tiny.make_tokenizer(), tiny.MAX_LENGTH

    def __getitem__(self, place):
        return self

    def forward(self, features):
        return {"sentence_embedding": features[self.name]}


@pytest.fixture
def columns():
    """Vectors of anchors, positives and two columns of negatives by the student and by the guide, both (4, ROWS, d)."""
    torch.manual_seed(1)
    guide = torch.randn(4, ROWS, 3)
    guide[1, :4] = guide[0, :4] + 0.7 * guide[1, :4]  # the last two rows may have a negative similarity
    return {"student": torch.randn(4, ROWS, 16), "guide": guide}


def make_features(columns, count):
    return [{name: vectors[i].clone() for name, vectors in columns.items()} for i in range(count)]


@pytest.mark.parametrize("kind", ["relative", "absolute"])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_guided_loss_equals_the_gist_losses(kind, margin, count, columns):
    student, guide = (columns[name][:count] for name in ("student", "guide"))
    arguments = {
        "temperature": TEMPERATURE,
        "margin_strategy": kind,
        "margin": margin,
        "contrast_anchors": False,
        "contrast_positives": False,
    }
    share = 1 - margin if kind == "relative" else margin  # theirs is the distance to the positive's similarity
    mask = compute_guide_mask(guide[0], guide[1:].flatten(0, 1), share, kind)
    assert mask.any()
    assert (mask.sum(1) < mask.shape[1] - 1).sum() > ROWS / 2
    ours = compute_contrastive_loss(student[0], student[1:].flatten(0, 1), 1 / TEMPERATURE, mask)
    if count < 4:  # GISTEmbedLoss takes one column of negatives at most
        theirs = st.GISTEmbedLoss(LookUp("student"), LookUp("guide"), **arguments)
        assert ours.item() == pytest.approx(theirs(make_features(columns, count), None).item(), rel=1e-5)
    cached = st.CachedGISTEmbedLoss(LookUp("student"), LookUp("guide"), mini_batch_size=4, **arguments)
    vectors = [[[column] for column in part] for part in (student, guide)]
    assert ours.item() == pytest.approx(cached.calculate_loss(*vectors).item(), rel=1e-5)


def test_a_relative_margin_is_a_share_of_the_positives_similarity_and_an_absolute_one_a_distance():
    similarities = torch.tensor([[0.8, 0.77, 0.75, 0.1], [0.9, 0.5, 0.47, 0.4]])
    own = torch.tensor([0.8, 0.5])
    relative = mask_guided_negatives(similarities, own, 0.95)
    assert relative.tolist() == [[False, True, False, False], [True, False, False, False]]
    absolute = mask_guided_negatives(similarities, own, 0.06, "absolute")
    assert absolute.tolist() == [[False, True, True, False], [True, False, True, False]]


def test_a_similarity_that_equals_the_limit_is_not_masked():
    similarities, own = torch.tensor([[0.5, 0.25]]), torch.tensor([0.5])
    for arguments in ((0.5, "relative"), (0.25, "absolute")):
        assert not mask_guided_negatives(similarities, own, *arguments).any()
        assert mask_guided_negatives(similarities + torch.tensor([0.0, 1e-6]), own, *arguments)[0, 1]


def test_the_limit_is_below_a_negative_similarity_of_the_positive_too():
    similarities = torch.tensor([[-0.4, -0.41], [0.0, -0.4]])
    own = torch.tensor([-0.4, -0.4])
    assert mask_guided_negatives(similarities, own, 0.95).tolist() == [[False, True], [True, False]]


def test_a_lower_share_or_a_larger_distance_masks_at_least_the_same_candidates(columns):
    similarities = compute_cosines(columns["guide"][0], columns["guide"][1:].flatten(0, 1))
    own = similarities.diagonal()
    for kind, margins in (("relative", [1.0, 0.9, 0.5]), ("absolute", [0.0, 0.1, 0.5])):
        masks = [mask_guided_negatives(similarities, own, margin, kind) for margin in margins]
        for narrow, wide in itertools.pairwise(masks):
            assert (wide | ~narrow).all()
            assert wide.sum() > narrow.sum()


def test_known_false_negatives_are_masked_as_well_but_never_the_own_positive(columns):
    anchors, candidates = columns["guide"][0], columns["guide"][1:].flatten(0, 1)
    queries, texts = torch.tensor([1, 1, 2, 3, 4, 5]), torch.arange(18)
    known = false_negative_mask(queries, texts, present=torch.arange(18) != 17)
    mask = compute_guide_mask(anchors, candidates, 0.95, known=known)
    assert torch.equal(mask, known | compute_guide_mask(anchors, candidates, 0.95))
    everything = compute_guide_mask(anchors, candidates, -10.0, known=torch.ones_like(known))
    assert torch.equal(~everything, torch.eye(ROWS, 18, dtype=torch.bool))


def test_a_batch_whose_negatives_are_all_masked_has_no_gradient_and_no_nan(columns):
    student = columns["student"].clone().requires_grad_()
    anchors, candidates = student[0], student[1:].flatten(0, 1)
    guide = torch.ones(ROWS, 3)
    mask = compute_guide_mask(guide, guide.repeat(3, 1), 0.5)
    loss = compute_contrastive_loss(anchors, candidates, mask=mask, symmetric=True)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.isfinite().all()
    assert not student.grad.any()


def test_the_guide_gets_no_gradient_and_the_rows_may_come_in_any_order(columns):
    student, guide = columns["student"], columns["guide"].clone().requires_grad_()
    order = torch.randperm(ROWS)
    masks = [compute_guide_mask(g[0], g[1:].flatten(0, 1), 0.9) for g in (guide, guide[:, order])]
    assert not masks[0].requires_grad
    first, second = (
        compute_contrastive_loss(s[0], s[1:].flatten(0, 1), mask=m)
        for s, m in zip((student, student[:, order]), masks, strict=True)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-5)
