"""Where codes start: means of words, anchors of a collection, the pull towards them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_documents import SMALL, TOPICS

from zoo.ops import codes
from zoo.paragraph_vectors import anchors, code_layer
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.model import Paragraphs, Settings


def unit(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def test_a_mean_of_words_is_the_weighted_sum_of_their_unit_vectors_and_of_none_zero():
    words, weights = unit(5, 3) * torch.tensor([[1.0], [2], [3], [4], [5]]), torch.tensor([1.0, 0.5, 2, 0, 1])
    found = code_layer.word_means(Batch.of([[0, 2, 2], [], [1]]), words, weights)
    rows = unit(5, 3)
    torch.testing.assert_close(found, torch.stack([rows[0] + 4 * rows[2], torch.zeros(3), rows[1] / 2]))


def test_anchors_stand_nearer_to_the_rows_than_the_rows_they_were_drawn_from():
    groups = unit(6, 16, seed=1)
    rows = torch.nn.functional.normalize(groups.repeat(40, 1) + 0.2 * unit(240, 16, seed=2), dim=1)
    found = anchors.centres(rows, 12, seed=3)
    drawn = rows[torch.randperm(240, generator=torch.Generator().manual_seed(3))[:12]]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(12))
    assert (rows @ found.T).amax(1).mean() > (rows @ drawn.T).amax(1).mean() + 0.005
    assert torch.equal(found, anchors.centres(rows, 12, seed=3))


def test_the_pull_goes_half_way_to_a_lone_anchor_and_past_those_that_are_far():
    row, near, far = torch.tensor([[1.0, 0]]), torch.tensor([[0.6, 0.8]]), torch.tensor([[-1.0, 0]])
    middle = torch.tensor([[0.8, 0.4]]) / 0.8**0.5
    torch.testing.assert_close(anchors.pulled(row, near), middle)
    torch.testing.assert_close(anchors.pulled(row, torch.cat((near, far))), middle)


def mixed(count, seed):
    """Texts of 20 words of which a third are of the topic i % 3, the others of any."""
    rng, every = np.random.default_rng(seed), [word for topic in TOPICS for word in topic]
    return [
        " ".join(w if rng.random() < 0.3 else str(rng.choice(every)) for w in rng.choice(TOPICS[i % 3], 20))
        for i in range(count)
    ]


@pytest.mark.parametrize("words", [True, False])
def test_drawn_towards_anchors_a_text_finds_more_of_its_topic_than_by_its_words_alone(words):
    known, asked, topic = mixed(240, 0), mixed(90, 4), np.arange(240) % 3
    model = Paragraphs(Settings(**{**SMALL, "bits": 20, "words": words, "window": 3})).fit(known)
    held = Batch.of([model.vocabulary.encode(text) for text in [*asked, *known]])
    vectors = model.state["inputs" if words else "outputs"]
    means = code_layer.word_means(held, vectors, torch.ones(len(model.vocabulary)))
    normal = torch.nn.functional.normalize
    apart = normal(normal(means, dim=1) - model.state["centre"], dim=1).numpy()

    def precision(likeness):
        order = np.argsort(-likeness, axis=1, kind="stable")
        return (topic[order[:, :50]] == topic[:90, None]).mean()

    drawn, plain = precision(model.infer(asked) @ model.infer(known).T), precision(apart[:90] @ apart[90:].T)
    coded = precision(-codes.compute_hamming_distances(model.infer_codes(asked), model.document_codes))
    assert drawn > plain + 0.01
    assert coded > 0.6  # chance is a third
