"""The vocabulary: tokenising, counting, its file, and the distributions that follow from the counts."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.core.errors import ArtefactError, ZooError
from zoo.paragraph_vectors import vocabulary as vocabulary_module
from zoo.paragraph_vectors.vocabulary import Vocabulary, tokenise


def test_words_are_lower_cased_runs_of_letters():
    assert tokenise("well-known 4th_A I'd") == ["well", "known", "th"]
    assert tokenise("Well-known 4th_A I'd ÄHRE") == ["well", "known", "th", "ähre"]
    assert tokenise("x" * 41 + " " + "é" * 41) == ["x" * 40, "é" * 40]


def test_words_are_ordered_by_count_and_unknown_words_are_skipped():
    vocabulary = Vocabulary.count(["The dog, the DOG 7", "the cat. Ähre"], min_count=1)
    assert (vocabulary.words, vocabulary.counts) == (("the", "dog", "cat", "ähre"), (3, 2, 1, 1))
    assert vocabulary.encode("a cat the cow") == [2, 0]
    assert vocabulary.select_frequent(1, max_size=3).words == ("the", "dog", "cat")
    assert vocabulary.select_frequent(2).words == ("the", "dog")


def test_texts_without_a_frequent_word_are_an_error():
    with pytest.raises(ZooError, match="no word occurs 2 times.*lower min_count"):
        Vocabulary.count(["a b"], min_count=2)


def test_a_saved_vocabulary_is_loaded_and_a_wrong_file_is_refused(tmp_path):
    path = tmp_path / "vocabulary.json"
    vocabulary = Vocabulary.count(["The dog, the DOG 7", "the cat. Ähre"], min_count=1)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    for content in (
        '{"format": 1, "words": ["a", "a"], "counts": [1, 1]}',
        '{"format": 1, "words": ["a", "b"], "counts": [1]}',
        '{"format": 1, "words": ["a"], "counts": [0]}',
        '{"format": 1, "words": ["a"], "counts": [true]}',
        '{"format": 1, "words": [], "counts": []}',
        '{"format": 2, "words": ["a"], "counts": [1]}',
    ):
        path.write_text(content)
        with pytest.raises(ArtefactError, match="not a vocabulary of format 1"):
            Vocabulary.load(path)
    for content in ("", "[]", '{"format": 1}', '{"format": 1, "words": [["a"]], "counts": [1]}'):
        path.write_text(content)
        with pytest.raises(ArtefactError, match="cannot be read as a vocabulary"):
            Vocabulary.load(path)


def test_the_rarest_words_are_dropped_while_too_many_are_counted(monkeypatch):
    monkeypatch.setattr(vocabulary_module, "MAX_DISTINCT_WORDS", 40)
    rare_words = [f"w{first}{second}" for first in "abcdefghij" for second in "abcdefghij"]
    vocabulary = Vocabulary.count([f"often again often {word}" for word in rare_words], min_count=2)
    assert (vocabulary.words, vocabulary.counts) == (("often", "again"), (200, 100))


def test_noise_follows_the_counts_to_the_power_of_three_quarters():
    vocabulary = Vocabulary(("a", "b", "c"), (1600, 81, 16))
    expected = np.array([1600**0.75, 27, 8]) / (1600**0.75 + 35)
    np.testing.assert_allclose(vocabulary.compute_noise_distribution(), expected)


def test_subsampling_keeps_rare_words_and_follows_the_formula_of_word2vec():
    vocabulary, sample = Vocabulary(("a", "b", "c"), (1600, 81, 16)), 1e-2
    frequency = np.array(vocabulary.counts) / sum(vocabulary.counts)
    expected = np.minimum(1, (np.sqrt(frequency / sample) + 1) * sample / frequency)
    np.testing.assert_allclose(vocabulary.compute_keep_probabilities(sample), expected, rtol=1e-6)
    assert (vocabulary.compute_keep_probabilities(0) == 1).all()


def test_a_word_of_the_given_frequency_has_half_the_weight():
    weights = Vocabulary(("a", "b"), (3, 1)).compute_rarity_weights(0.25)
    np.testing.assert_allclose(weights, [0.25, 0.5])


def test_kept_words_stay_however_rare_they_are_and_keep_their_place():
    every = Vocabulary.count(["common common common", "rare odd odd", "lone"], min_count=1)
    kept = every.select_frequent(3, keep={"rare", "lone", "absent", "common"})
    assert (kept.words, kept.counts) == (("common", "lone", "rare"), (3, 1, 1))
    assert every.select_frequent(3).words == ("common",)
