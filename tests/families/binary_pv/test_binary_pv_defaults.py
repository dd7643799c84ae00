"""Settings of binary-pv that follow the corpus, and what a model folder keeps of them."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from tiny_documents import texts

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.families.binary_pv import defaults
from zoo.families.binary_pv.encoder import Encoder
from zoo.families.binary_pv.spec import Spec
from zoo.schema import Training


def train(folder, **options) -> tuple[Encoder, list[str]]:
    spec = Spec(family="binary-pv", bits=16, dim=20, **{"variant": "real-binary", **options})
    encoder, lines = Encoder.build(spec), []
    encoder.fit(Dataset.from_dict({"text": [*texts(), "hapax"]}), Training(), folder, say=lines.append)
    return encoder, lines


def test_small_corpora_are_read_more_often_and_keep_all_words():
    assert [defaults.choose_epochs(words) for words in (0, 4000, 20_000, 10**6)] == [50, 50, 25, 20]
    assert [defaults.choose_min_count(words) for words in (0, 19_999, 20_000, 10**7)] == [1, 1, 2, 2]


def test_training_says_and_records_the_settings_that_it_chose(tmp_path):
    encoder, lines = train(tmp_path / "a")
    assert lines[0] == (
        "151 texts of 4,501 words: read 50 times, words that occur 1 times are kept (31), "
        "word vectors start from latent semantic analysis, which keeps a share of 53% of them"
    )
    settings = encoder.card_facts()["settings"]
    assert (settings["training.epochs"], settings["encoder.min_count"]) == (50, 1)
    assert "hapax" in encoder.model.vocabulary.words
    limited, _ = train(tmp_path / "b", min_count=2)
    assert "hapax" not in limited.model.vocabulary.words


def test_a_folder_keeps_what_followed_the_corpus_and_an_older_one_keeps_its_weights_of_words(tmp_path):
    encoder, _ = train(tmp_path / "run")
    folder = model_folder.save(encoder, tmp_path / "model")
    loaded = zoo.from_pretrained(folder)
    assert loaded.card_facts() == encoder.card_facts()
    assert loaded.card_facts()["lsa_start"]
    np.testing.assert_array_equal(loaded.encode(texts(9, seed=4)), encoder.encode(texts(9, seed=4)))
    config = atomic_files.read_json(folder / "config.json")
    assert config["zoo"]["training"].pop("texts") == 151
    assert config["zoo"]["training"].pop("lsa_share") == pytest.approx(5000 / 9501)
    atomic_files.write_json(folder / "config.json", config)
    manifest.write(folder)
    older = zoo.from_pretrained(folder)
    expected = older.model.vocabulary.compute_rarity_weights(1e-4)
    np.testing.assert_array_equal(older.model.compute_word_weights(), expected)
    assert np.abs(older.encode(texts(9), real=True) - encoder.encode(texts(9), real=True)).max() > 0.01
    assert not older.card_facts()["lsa_start"]


@pytest.mark.parametrize("variant", ["dbow", "dm"])
def test_a_small_collection_has_no_anchors(variant, tmp_path):
    encoder, lines = train(tmp_path, variant=variant)
    assert (encoder.model.settings.anchors, len(encoder.model.state["anchors"])) == (0, 0)
    assert ("random vectors" in lines[0]) == (variant == "dm")
