"""The start of word vectors in a small corpus, compared with scikit-learn's own LSA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from tiny_documents import SMALL, texts

from zoo.paragraph_vectors import word_start
from zoo.paragraph_vectors.checkpoints import RunLog
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
from zoo.paragraph_vectors.vocabulary import Vocabulary, tokenise


def test_directions_are_those_of_lsa_and_all_words_have_the_same_length():
    documents = [*texts(60), ""]
    vocabulary = Vocabulary.count(documents, min_count=1)
    batch = Batch.from_token_lists([vocabulary.encode(text) for text in documents])
    vectors = word_start.compute_start(word_start.decompose(batch, len(vocabulary) + 1, 12, seed=3))
    assert (vectors.shape, vectors.dtype) == ((len(vocabulary) + 1, 12), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors[:-1], axis=1), word_start.LENGTH, rtol=1e-5)
    assert not vectors[-1].any(), "a word of no document"
    tfidf = TfidfVectorizer(analyzer=tokenise, vocabulary=vocabulary.words, sublinear_tf=True).fit_transform(documents)
    svd = TruncatedSVD(12, n_iter=50, random_state=0).fit(tfidf)
    expected = svd.components_.T * svd.singular_values_
    expected *= word_start.LENGTH / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:-1] @ vectors[:-1].T, expected @ expected.T, atol=0.01)


@pytest.mark.parametrize("token_lists", [[[0, 0, 0]], [[0], [1]], [[0, 1], [1, 0], []]])
def test_a_corpus_smaller_than_the_vectors_leaves_components_at_zero(token_lists):
    vectors = word_start.compute_start(word_start.decompose(Batch.from_token_lists(token_lists), 2, 8, seed=0))
    assert np.isfinite(vectors).all()
    assert not vectors[:, len(token_lists) :].any()


def test_only_a_small_corpus_starts_from_lsa_and_weighs_words_by_document_frequency():
    options = {**SMALL, "epochs": 1, "words": True, "learning_rate": 1e-6, "last_learning_rate": 1e-6, "bits": 8}
    documents = texts(40)  # of 30 words
    models = [ParagraphVectors(Settings(**options, small_corpus=limit)).fit(documents) for limit in (0, 1200, 1201)]
    for name, tensor in models[0].state.items():
        assert torch.equal(tensor, models[1].state[name]), "a corpus that is not small is trained as ever"
    lengths = [np.linalg.norm(model.word_vectors, axis=1).mean() for model in models]
    assert lengths[0] < 0.2
    assert lengths[2] == pytest.approx(word_start.LENGTH, abs=1e-3), "the mean length is that of the start"
    assert [model.settings.texts for model in models] == [0, 0, 40]
    assert [model.settings.lsa_share for model in models] == [0, 0, 5000 / 6200]
    expected = models[2].vocabulary.compute_document_weights(40)
    np.testing.assert_array_equal(models[2].compute_word_weights(), expected)


def test_rare_words_weigh_more_by_their_inverse_document_frequency():
    vocabulary = Vocabulary(("every", "some", "one"), (30, 4, 1))
    expected = [np.log(11 / 11) + 1, np.log(11 / 5) + 1, np.log(11 / 2) + 1]
    np.testing.assert_allclose(vocabulary.compute_document_weights(10), expected, rtol=1e-6)


def test_analysis_weighs_less_the_more_words_there_are_and_never_less_than_a_quarter():
    shares = [word_start.choose_share(words) for words in (0, 5000, 15_000, 10**6)]
    assert shares == [1, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_blend_goes_from_the_sums_of_lsa_to_those_of_trained_directions(share):
    documents = texts(50)
    vocabulary = Vocabulary.count(documents, min_count=1)
    token_lists = [vocabulary.encode(text) for text in documents]
    batch, weights = Batch.from_token_lists(token_lists), vocabulary.compute_document_weights(50)
    axes = word_start.decompose(batch, len(vocabulary), 8, seed=0).axes
    trained = np.random.default_rng(1).normal(size=axes.shape).astype(np.float32)
    blended = word_start.blend(axes, trained, batch, weights, share)
    assert np.linalg.norm(blended, axis=1).mean() == pytest.approx(np.linalg.norm(trained, axis=1).mean(), rel=1e-5)
    words = axes if share else trained / np.linalg.norm(trained, axis=1, keepdims=True)
    np.testing.assert_allclose(blended / blended[0, 0], words / words[0, 0], rtol=1e-3)


def test_half_of_a_text_comes_from_either_part_of_a_blend():
    rng = np.random.default_rng(2)
    batch = Batch.from_token_lists(rng.integers(0, 30, (40, 6)).tolist())
    axes, trained = np.zeros((2, 30, 16), np.float32)
    axes[:, :8], trained[:, 8:] = 0.01 * rng.normal(size=(30, 8)), 7 * rng.normal(size=(30, 8))
    blended = word_start.blend(axes, trained, batch, np.ones(30, np.float32), 0.5)
    sums = np.stack(
        [blended[batch.tokens[start:end]].sum(0) for start, end in zip(batch.starts, batch.ends, strict=True)]
    )
    first, second = (np.linalg.norm(part, axis=1).mean() for part in (sums[:, :8], sums[:, 8:]))
    assert first == pytest.approx(second, rel=1e-4)


def test_a_run_that_was_interrupted_after_the_vectors_blends_them_as_an_uninterrupted_one(tmp_path, monkeypatch):
    settings = Settings(**{**SMALL, "epochs": 2}, words=True, bits=8, code_epochs=1, small_corpus=10**6)
    whole = ParagraphVectors(settings).fit(texts(40))
    save_checkpoint = RunLog.save_checkpoint
    for last in (2, 3):  # the steps are: two passes, settling, codes

        def interrupt(self, arrays, last=last):
            save_checkpoint(self, arrays)
            if self.step == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunLog, "save_checkpoint", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ParagraphVectors(settings).fit(texts(40), folder=tmp_path / str(last), checkpoint_every=1)
        resumed = ParagraphVectors(settings).fit(texts(40), folder=tmp_path / str(last), checkpoint_every=1)
        for name, tensor in whole.state.items():
            assert torch.equal(tensor, resumed.state[name]), (last, name)
