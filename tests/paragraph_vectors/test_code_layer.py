"""The start of codes: means of word vectors, anchors of a collection, and the pull towards the anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_documents import SMALL, TOPICS
from torch.nn.functional import normalize

from zoo.ops import codes
from zoo.paragraph_vectors import anchors, code_layer
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.model import ParagraphVectors, Settings


def random_unit_vectors(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_word_means_are_weighted_sums_of_unit_vectors_and_zero_without_words():
    words = random_unit_vectors(5, 3) * torch.tensor([[1.0], [2], [3], [4], [5]])
    weights = torch.tensor([1.0, 0.5, 2, 0, 1])
    means = code_layer.compute_word_means(Batch.from_token_lists([[0, 2, 2], [], [1]]), words, weights)
    unit = random_unit_vectors(5, 3)
    torch.testing.assert_close(means, torch.stack([unit[0] + 4 * unit[2], torch.zeros(3), unit[1] / 2]))
    batch = Batch.from_token_lists([[4, 1]])
    sums = code_layer.compute_word_means(batch, words, weights, keeps_lengths=True)
    torch.testing.assert_close(sums, words[4:] + words[1:2] / 2)


def test_anchors_are_nearer_to_the_vectors_than_the_vectors_that_kmeans_starts_from():
    groups = random_unit_vectors(6, 16, seed=1)
    vectors = normalize(groups.repeat(40, 1) + 0.2 * random_unit_vectors(240, 16, seed=2), dim=1)
    centres = anchors.compute_anchors(vectors, 12, seed=3)
    start = vectors[torch.randperm(240, generator=torch.Generator().manual_seed(3))[:12]]
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(12))
    assert (vectors @ centres.T).amax(1).mean() > (vectors @ start.T).amax(1).mean() + 0.01
    assert torch.equal(centres, anchors.compute_anchors(vectors, 12, seed=3))


def test_an_anchor_that_is_nearest_to_no_vector_stays_where_it_is():
    vectors = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), dim=1)
    centres = anchors.compute_anchors(
        vectors, 3, seed=0
    )  # two anchors start at the same place, so one is never nearest
    assert sorted(centres.tolist()) == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]


def test_the_number_of_anchors_is_a_tenth_of_the_documents_within_limits_and_none_for_few_of_a_small_corpus():
    sizes = (0, 5, 150, 1999, 2000, 5000, 10**6)
    assert [code_layer.count_anchors(documents) for documents in sizes] == [1, 1, 15, 199, 200, 500, 1000]
    assert [code_layer.count_anchors(documents, True) for documents in sizes] == [0, 0, 0, 0, 300, 500, 1000]


def test_without_anchors_a_vector_is_only_centred():
    tensors = {"centre": torch.tensor([0.5, 0.0]), "anchors": torch.zeros(0, 2)}
    vectors = code_layer.compute_start_vectors(torch.tensor([[0.0, 3.0], [0.0, 0.0]]), tensors)
    torch.testing.assert_close(vectors, torch.stack([normalize(torch.tensor([-0.5, 1.0]), dim=0), torch.zeros(2)]))


def test_the_pull_goes_half_way_to_a_near_anchor_and_ignores_far_ones():
    vector, near, far = torch.tensor([[1.0, 0]]), torch.tensor([[0.6, 0.8]]), torch.tensor([[-1.0, 0]])
    half_way = torch.tensor([[0.8, 0.4]]) / 0.8**0.5
    torch.testing.assert_close(anchors.pull_towards_anchors(vector, near), half_way)
    torch.testing.assert_close(anchors.pull_towards_anchors(vector, torch.cat((near, far))), half_way)


def mixed_texts(count, seed):
    """Make texts of 20 words: about a third of the words are from topic i % 3, the others from any topic."""
    rng, all_words = np.random.default_rng(seed), [word for topic in TOPICS for word in topic]
    return [
        " ".join(word if rng.random() < 0.3 else str(rng.choice(all_words)) for word in rng.choice(TOPICS[i % 3], 20))
        for i in range(count)
    ]


@pytest.mark.parametrize("has_word_vectors", [True, False])
def test_vectors_pulled_towards_anchors_find_more_of_their_topic_than_word_means_alone(has_word_vectors):
    documents, queries, topic = mixed_texts(240, 0), mixed_texts(90, 4), np.arange(240) % 3
    settings = Settings(**{**SMALL, "bits": 20, "words": has_word_vectors, "window": 3})
    model = ParagraphVectors(settings).fit(documents)
    batch = Batch.from_token_lists([model.vocabulary.encode(text) for text in [*queries, *documents]])
    word_vectors = model.state["inputs" if has_word_vectors else "outputs"]
    means = code_layer.compute_word_means(batch, word_vectors, torch.ones(len(model.vocabulary)))
    plain = normalize(normalize(means, dim=1) - model.state["centre"], dim=1).numpy()

    def precision(similarities):
        order = np.argsort(-similarities, axis=1, kind="stable")
        return (topic[order[:, :50]] == topic[:90, None]).mean()

    pulled_precision = precision(model.infer(queries) @ model.infer(documents).T)
    code_precision = precision(-codes.compute_hamming_distances(model.infer_codes(queries), model.document_codes))
    assert pulled_precision > precision(plain[:90] @ plain[90:].T) + 0.01
    assert code_precision > 0.6  # chance is a third
