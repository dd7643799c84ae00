"""Keywords that occur in a text move its vector towards their labels."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.families.lbl2vec.encoder import Encoder
from zoo.families.lbl2vec.keyword_counts import compute_keyword_evidence
from zoo.families.lbl2vec.spec import Spec
from zoo.schema import Training

KEYWORDS = {"sea": ("wave", "tide pool"), "law": ("court",)}


def train(folder, **options) -> Encoder:
    texts = [f"wave boat sail harbour {n % 3 * 'deck '}" for n in range(12)] + ["court judge trial plea"] * 12
    texts += ["one subpoena court judge trial"]
    encoder = Encoder.build(Spec(family="lbl2vec", dim=8, **{"labels": KEYWORDS, **options}), seed=1)
    rows = Dataset.from_dict({"text": texts})
    encoder.fit(rows, Training(epochs=2, learning_rate=0.025, seed=1), folder / "run")
    encoder.finish(rows)
    return encoder


def test_evidence_is_the_sum_of_label_vectors_over_occurrences_for_each_word():
    labels = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = ["Wave, wave and court", "the tide pool", "tide of a pool", ""]
    expected = [[2 / 4, 1 / 4], [1 / 3, 0], [0, 0], [0, 0]]
    np.testing.assert_allclose(compute_keyword_evidence(texts, KEYWORDS, labels), expected)


def test_a_text_is_moved_by_its_evidence_and_one_without_keywords_is_not(tmp_path):
    plain, moved = train(tmp_path / "a", keyword_evidence=0), train(tmp_path / "b", keyword_evidence=2)
    np.testing.assert_array_equal(plain.label_vectors, moved.label_vectors)
    texts = ["court of the boat", "boat and sail", "wave"]
    expected = plain.encode(texts) + 2 * compute_keyword_evidence(texts, KEYWORDS, plain.label_vectors)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(moved.encode(texts), expected, atol=1e-5)
    np.testing.assert_array_equal(moved.encode(texts)[1], plain.encode(texts)[1])
    np.testing.assert_allclose(moved.compute_similarities(texts), expected @ plain.label_vectors.T, atol=1e-5)


def test_a_very_large_evidence_answers_as_counting_does(tmp_path):
    encoder = train(tmp_path, keyword_evidence=1e6)
    labels = [prediction.label for prediction in encoder.classify(["judge wave trial", "boat court", "unheard court"])]
    assert labels == ["sea", "law", "law"]


def test_a_folder_keeps_the_evidence_and_one_that_does_not_name_it_has_none(tmp_path):
    encoder = train(tmp_path)
    texts = ["court of the boat", "wave"]
    folder = model_folder.save(encoder, tmp_path / "model")
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(texts), encoder.encode(texts), atol=1e-6)
    config = atomic_files.read_json(folder / "config.json")
    assert config["zoo"]["space"].pop("keyword_evidence") == encoder.keyword_evidence > 0
    atomic_files.write_json(folder / "config.json", config)
    manifest.write(folder)
    encoder.keyword_evidence = 0.0
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(texts), encoder.encode(texts), atol=1e-6)


def test_a_sentence_encoder_is_left_alone_by_default():
    spec = Spec(family="lbl2vec", labels=KEYWORDS, backbone="b")
    assert spec.keyword_evidence is None
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Spec(family="lbl2vec", labels=KEYWORDS, keyword_evidence=-1)


def test_a_rare_keyword_stays_among_the_known_words(tmp_path):
    encoder = train(tmp_path, labels=KEYWORDS | {"writ": ("subpoena",)}, min_count=3)
    assert "subpoena" in encoder.text_encoder.vocabulary.words
    assert "one" not in encoder.text_encoder.vocabulary.words
