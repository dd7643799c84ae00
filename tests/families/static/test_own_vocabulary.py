"""Where the backbone does not know the words, static learns subwords of the training texts, and starts at their LSA."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import yaml
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import zoo
from zoo.build.builder import run
from zoo.families.static import own_vocabulary
from zoo.families.static.encoder import Encoder
from zoo.families.static.spec import Spec
from zoo.text.subwords import SPECIAL, Subwords

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшжыз")
DIM = 8
TEXTS = [text.translate(CYRILLIC) for text in tiny.SENTENCES[:60]]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "bert", layers=1, hidden=16)


def make_rows(texts) -> Dataset:
    return Dataset.from_dict({"anchor": texts, "positive": [" ".join(reversed(text.split())) for text in texts]})


def write_recipe(folder, backbone, texts, **encoder):
    rows = make_rows(texts)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    content = {
        "name": "own",
        "encoder": {"family": "static", "backbone": backbone, "dim": DIM, **encoder},
        "data": {"source": "file", "path": "pairs.jsonl"},
        "training": {"max_steps": 4, "batch_size": 16},
    }
    (folder / "recipe.yaml").write_text(json.dumps(content), encoding="utf-8")
    return zoo.load_recipe(folder / "recipe.yaml")


def test_texts_start_at_the_vectors_that_lsa_gives_them():
    documents = TEXTS[:12]  # so few that the decomposition is exact
    bag = own_vocabulary.learn(documents, 64, None, seed=3)
    tokenizer = Subwords.learn(documents, own_vocabulary.VOCABULARY_SIZE, marks_inside=True).tokenizer

    def split(text):
        return tokenizer.encode(text, add_special_tokens=False).tokens

    tfidf = TfidfVectorizer(analyzer=split, sublinear_tf=True).fit(documents)
    svd = TruncatedSVD(len(documents) - 1, n_iter=50, random_state=0).fit(tfidf.transform(documents))
    # Words once: LSA takes the logarithm of counts, and a bag of tokens adds them up.
    texts = [" ".join(dict.fromkeys(text.split())) for text in documents]
    expected = svd.transform(tfidf.transform(texts))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = bag.encode(texts)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-3)


def test_subwords_are_the_same_every_time_and_special_ones_have_no_vector():
    bags = [own_vocabulary.learn(TEXTS, DIM, 12, seed=3) for _ in range(4)]
    for bag in bags[1:]:
        assert bag.tokenizer.to_str() == bags[0].tokenizer.to_str()
        np.testing.assert_array_equal(bag.table, bags[0].table)
    assert bags[0].tokenizer.truncation["max_length"] == 12
    assert not bags[0].table[: len(SPECIAL)].any()


def test_a_subword_that_no_text_has_can_be_recognised():
    bag = own_vocabulary.learn(["абаб абаб", "абабаб"], 2, None, seed=0)
    ids = np.unique(bag.tokenize(["абаб абаб", "абабаб"])[0])
    others = [i for i in range(len(SPECIAL), len(bag.table)) if i not in ids]
    assert others
    lengths = np.linalg.norm(bag.table[others], axis=1)
    np.testing.assert_allclose(lengths, own_vocabulary.UNSEEN_LENGTH, rtol=1e-5)


def test_a_run_says_what_it_learned_and_its_recipe_repeats_it(tmp_path, backbone):
    lines = []
    encoder = run(write_recipe(tmp_path, backbone, TEXTS), tmp_path / "run", say=lines.append)
    (line,) = [line for line in lines if "encoder.vocabulary" in line]
    assert line == (
        f"encoder.vocabulary is not set: texts, {len(encoder.bag.table):,} subwords of the training texts, because "
        f"{backbone} spells most of their words letter by letter"
    )
    assert not any("warning" in line and "spelled" in line for line in lines)
    saved = yaml.safe_load((tmp_path / "run" / "model" / "recipe.yaml").read_text(encoding="utf-8"))
    assert saved["encoder"]["vocabulary"] == "texts"
    explicit = run(write_recipe(tmp_path, backbone, TEXTS, vocabulary="texts"), tmp_path / "again")
    np.testing.assert_array_equal(explicit.bag.table, encoder.bag.table)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "learned from the training texts by byte-pair encoding" in card


def test_its_folder_opens_in_stock_sentence_transformers(tmp_path, backbone):
    encoder = run(write_recipe(tmp_path, backbone, TEXTS), tmp_path / "run")
    texts = [*TEXTS[:5], "совсем другие слова", "latin 123", ""]
    vectors = encoder.encode(texts)
    stock = SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    np.testing.assert_allclose(stock.encode(texts), vectors, atol=1e-5)
    opened = zoo.from_pretrained(tmp_path / "run" / "model")
    np.testing.assert_array_equal(opened.encode(texts), vectors)


def test_words_that_the_backbone_knows_keep_its_vocabulary(tmp_path, backbone):
    encoders = []
    for vocabulary in ("auto", "backbone"):
        encoder = Encoder.build(Spec(family="static", backbone=backbone, dim=DIM, vocabulary=vocabulary))
        encoder.prepare(make_rows(tiny.SENTENCES[:40]), tmp_path)
        encoders.append(encoder)
    assert encoders[0].bag.tokenizer.to_str() == encoders[1].bag.tokenizer.to_str()
    np.testing.assert_array_equal(encoders[0].bag.table, encoders[1].bag.table)
