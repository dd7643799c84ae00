"""Fixed vectors of subwords compare texts as LSA and TF-IDF do, and stay as they are in training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from test_held_out_choice import OPEN, fit
from test_sesa import LIST, TEXTS, TRAINING, pairs, spec

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError
from zoo.families.sesa import held_out_choice
from zoo.families.sesa.encoder import Encoder
from zoo.text import lexical
from zoo.text.subwords import INSIDE, SPECIAL, UNKNOWN, Subwords

WORDS = 40  # ids from 2; the last one is in no text


def draw_texts(count: int, seed: int = 0) -> list[list[int]]:
    """Texts of 8 ids. Two thirds of them are from one of four topics."""
    draw = np.random.default_rng(seed)
    topics = np.arange(2, 2 + WORDS - 1)[: 4 * 9].reshape(4, 9)
    return [
        [int(i) for i in draw.choice(topics[k % 4] if draw.random() < 0.67 else topics.ravel(), 8)]
        for k in range(count)
    ]


def count_words(texts: list[list[int]]) -> np.ndarray:
    return np.array([np.bincount(text, minlength=WORDS + 2) for text in texts], dtype=np.float64)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_sums_of_vectors_compare_texts_as_tf_idf_does():
    texts, new = draw_texts(60), draw_texts(30, seed=1)
    table = lexical.compute_table(texts, WORDS + 2, 8000, 1.0, seed=3).double().numpy()
    assert table.shape == (WORDS + 2, 8000)
    sums = unit(count_words(new) @ table)
    transformer = TfidfTransformer().fit(count_words(texts))
    expected = transformer.transform(count_words(new)).toarray()
    np.testing.assert_allclose(sums @ sums.T, expected @ expected.T, atol=0.05)


def test_the_first_part_compares_texts_as_lsa_does():
    texts, new = draw_texts(60), draw_texts(30, seed=1)
    table = lexical.compute_table(texts, WORDS + 2, 32, 0.0, seed=3).double().numpy()
    assert not table[:, 8:].any()
    sums = unit(count_words(new) @ table)
    transformer = TfidfTransformer(sublinear_tf=True).fit(count_words(texts))
    analysis = TruncatedSVD(8, n_iter=50, random_state=0).fit(transformer.transform(count_words(texts)))
    expected = unit(count_words(new) * transformer.idf_ @ analysis.components_.T)
    np.testing.assert_allclose(sums @ sums.T, expected @ expected.T, atol=0.02)


def test_a_subword_of_no_text_weighs_little_and_a_special_one_nothing():
    table = lexical.compute_table(draw_texts(60), WORDS + 2, 64, 1.0, seed=0)
    assert not table[: len(SPECIAL)].any()
    largest = np.log(61) + 1  # the weight of a subword that is in no text
    assert table[-1].norm().item() == pytest.approx(lexical.UNSEEN_WEIGHT * largest, rel=1e-5)
    scaled = table.clone()
    lexical.scale_second_part(scaled, 0.5)
    halved = lexical.compute_table(draw_texts(60), WORDS + 2, 64, 0.5, seed=0)
    torch.testing.assert_close(scaled, halved)


def test_few_texts_leave_the_first_part_empty_and_the_second_recognises_words():
    table = lexical.compute_table([[2, 3]], 5, 16, 0.5, seed=0)
    assert not table[:, :4].any()
    assert (table[2:].norm(dim=1) > 0).all()
    assert not lexical.compute_table([[]], 5, 16, 0.5, seed=0)[:, :4].any()


# -- subwords that know where they stand in a word --------------------------------------------------------------------


def test_subwords_inside_a_word_differ_from_those_at_its_start_and_depend_on_the_texts_alone(tmp_path):
    texts = [f"the {word} cough" for word in ("acute", "chronic", "Brónchial", "whooping", "mild", "severe")] * 2
    subwords = [Subwords.learn(texts, 90, marks_inside=True) for _ in range(3)]
    assert len({str((entry.pieces, entry.merges)) for entry in subwords}) == 1
    start, inside = (subwords[0].encode([text], 9)[0] for text in ("o", "to"))
    assert start[0] != inside[-1]
    assert subwords[0].pieces[inside[-1]].startswith(INSIDE)
    assert len(subwords[0].encode(["cough"], 9)[0]) == 1
    subwords[0].save(tmp_path / "pieces.json")
    loaded = Subwords.load(tmp_path / "pieces.json")
    assert loaded.encode([*texts, "a new word"], 9) == subwords[0].encode([*texts, "a new word"], 9)
    content = json.loads((tmp_path / "pieces.json").read_text())
    (tmp_path / "pieces.json").write_text(json.dumps(content | {"prefix": "@@"}))
    with pytest.raises(ArtefactError, match="cannot be read as subwords|is not a list of subwords"):
        Subwords.load(tmp_path / "pieces.json")


# -- an encoder with them ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Encoder:
    return fit(tmp_path_factory.mktemp("open"), pairs(100))[0]


def test_an_open_recipe_has_them_and_one_with_epochs_has_not(trained, tmp_path):
    weight = trained.spec.lexical_weight
    assert weight in lexical.WEIGHTS
    assert trained.spec.lexical_dim == trained.towers.own_width == lexical.DIM
    names = ("lexical_dim", "lexical_weight", "rarity")
    assert [trained.chosen[f"encoder.{name}"] for name in names] == [lexical.DIM, weight, "texts"]
    assert trained.dim == len(LIST) + lexical.DIM
    assert trained.unnamed_share >= min(held_out_choice.LEXICAL_SHARES)
    explicit, _ = fit(tmp_path, pairs(), TRAINING.model_copy(update={"epochs": 1.0}))
    assert not explicit.towers.get_tower("query").module.has_lexical
    assert (explicit.spec.lexical_dim, explicit.dim) == (None, len(LIST))


def test_training_leaves_them_and_the_folder_keeps_them(trained, tmp_path):
    tower, concepts = trained.towers.get_tower("query"), trained.concept_list
    rows = pairs(100)
    texts = list(dict.fromkeys([*rows["anchor"], *rows["positive"], *concepts.names]))
    weight = trained.spec.lexical_weight
    table = lexical.compute_table(tower.tokenize(texts), len(tower.subwords), lexical.DIM, weight, trained.seed)
    torch.testing.assert_close(tower.module.lexical, table)
    opened = zoo.from_pretrained(model_folder.save(trained, tmp_path / "model"))
    np.testing.assert_allclose(opened.encode(TEXTS), trained.encode(TEXTS), atol=1e-6)


def test_the_unnamed_part_of_a_score_is_their_cosine(trained):
    tower = trained.towers.get_tower("query")
    own = trained.encode(TEXTS)[:, len(LIST) :]
    sums = np.stack([tower.module.lexical[ids].sum(0).numpy() for ids in tower.tokenize(TEXTS)])
    has_words = np.linalg.norm(sums, axis=1) > 0
    expected, found = unit(sums[has_words]), unit(own[has_words])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


@pytest.mark.parametrize("best", lexical.WEIGHTS)
def test_the_weight_of_equal_words_is_the_one_that_ranks_best(best, tmp_path, monkeypatch):
    def measure(candidate, search, shares):
        weight = candidate.spec.lexical_weight
        return {share: np.full(len(search.queries), 0.9 if weight == best else 0.1) for share in shares}

    monkeypatch.setattr(held_out_choice, "measure", measure)
    encoder, said = fit(tmp_path, pairs(60), OPEN.model_copy(update={"batch_size": 60}), train_concepts=False)
    assert encoder.spec.lexical_weight == best
    assert any(f"equal words have a weight of {best:g}" in line for line in said)


def test_too_few_pairs_and_given_fields_choose_no_weight(tmp_path):
    few, _ = fit(tmp_path / "few", pairs(12))
    assert few.spec.lexical_weight is None
    assert "encoder.lexical_weight" not in few.chosen
    options = {"lexical_dim": 20, "lexical_weight": 0.0, "train_concepts": False, "unnamed_share": 0.5}
    given, _ = fit(tmp_path / "given", pairs(), **options)
    assert given.towers.own_width == 20
    assert not given.towers.get_tower("query").module.lexical[:, 5:].any()
    with pytest.raises(ValueError, match="`lexical_dim` belongs to towers that are learned from the texts alone"):
        spec(tmp_path, backbone=tiny.backbone(tmp_path / "bert"), lexical_dim=8)


def test_a_text_without_a_known_character_has_no_part_of_them(trained):
    assert trained.towers.get_tower("query").tokenize(["\N{SNOWMAN}"]) == [[UNKNOWN]]
    assert not trained.encode(["\N{SNOWMAN}"])[0, len(LIST) :].any()
