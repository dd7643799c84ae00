"""SESA, trained: vectors, towers, explanations, index, mistakes in data, and a recipe from start to card."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from contract import Contract
from datasets import Dataset

import zoo
from zoo.artefact import manifest, model_folder
from zoo.cli import main
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.families.sesa import faithfulness, hierarchy, inverted_index
from zoo.families.sesa.encoder import Encoder
from zoo.families.sesa.inverted_index import InvertedIndex
from zoo.families.sesa.spec import Spec
from zoo.families.sesa.tower_modules import PooledBackbone
from zoo.metrics import ranking
from zoo.ops.false_negatives import compute_text_key
from zoo.schema import Training

TOPICS = {  # the id of a leaf: its parent, and words that texts about it contain
    "fever": ("illness", "fever rash cough"),
    "lungs": ("illness", "lung cough chronic"),
    "bones": ("injury", "bone broken leg arm"),
    "head": ("injury", "head pain acute"),
    "guitar": (None, "guitar plays man woman"),
}
LIST = [
    *({"id": leaf, "name": f"About {leaf}", "parent": [up] if up else []} for leaf, (up, _) in TOPICS.items()),
    {"id": "illness", "name": "Illness", "parent": []},
    {"id": "injury", "name": "Injury", "parent": []},
]
TRAINING = Training(epochs=25, batch_size=20, learning_rate=0.02)


def pairs(count: int = 60, seed: int = 0) -> Dataset:
    """Rows of two texts with words of one topic. A third of the rows has no tag."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        topic = list(TOPICS)[i % len(TOPICS)]
        words = TOPICS[topic][1].split()
        texts = [" ".join(["the", *rng.choice(words, 3), "of"]) for _ in range(2)]
        tags = [topic] if i % 3 else []
        rows.append({"anchor": texts[0], "positive": texts[1], "anchor_concepts": tags, "positive_concepts": tags})
    return Dataset.from_list(rows)


def spec(folder, **options) -> Spec:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "concepts.json").write_text(json.dumps(LIST))
    sizes = {} if "backbone" in options else {"vocab_size": 120, "dim": 12, "hidden": 8}
    return Spec(
        family="sesa",
        concepts={"source": "file", "path": "concepts.json"},
        **(sizes | {"max_active": 6, "supervision": 1.0} | options),
    )


def contract(folder) -> Contract:
    inputs = [*pairs(9, seed=1)["anchor"], "a text of other words", "\N{SNOWMAN}"]
    return Contract(spec(folder), pairs(), TRAINING, inputs, {"active": 3}, folder, spec(folder, dropout=0.0))


def train(folder, rows=None, training=TRAINING, tables=None, **options) -> Encoder:
    encoder = Encoder.build(spec(folder, **options), seed=3, folder=folder)
    encoder.tables = tables or {}
    rows = pairs() if rows is None else rows
    encoder.prepare(rows, folder / "cache")
    encoder.fit(rows, training, folder / "run")
    encoder.finish(rows)
    return encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Encoder:
    return train(tmp_path_factory.mktemp("sesa"))


TEXTS = [*pairs(40, seed=5)["anchor"], *tiny.SENTENCES[:40], "", "zzz"]


# -- tags ------------------------------------------------------------------------------------------------------------


def test_a_predicted_tag_is_the_likeliest_leaf_or_a_concept_near_it(encoder):
    concepts = encoder.concept_list
    leaves = set(range(len(concepts))) - {parent for parents in concepts.parents for parent in parents}
    plain = encoder.predict_tags(TEXTS)
    assert {concepts.row_by_id[tag.label] for tag in plain} <= leaves
    near = encoder.predict_tags(TEXTS, rule="frechet")
    assert all(tag.name == concepts.names[concepts.row_by_id[tag.label]] for tag in near)
    assert all(tag.expected_squared_distance >= 0 and 0 <= tag.probability <= 1 + 1e-9 for tag in near)
    for before, after in zip(plain, near, strict=True):
        assert after.label == before.label or before.probability < 0.9, "a certain tag is kept"


# -- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_are_sparse_unit_vectors_and_no_parent_is_below_its_child(encoder):
    for view in (encoder, encoder.view(active=3), encoder.view(active=1)):
        vectors = view.encode(TEXTS)
        assert (vectors >= 0).all()
        assert ((vectors > 0).sum(1) <= (view.view_options.get("active") or 6)).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        for child, parents in enumerate(encoder.concept_list.parents):
            for parent in parents:
                assert (vectors[:, parent] >= vectors[:, child]).all()
        np.testing.assert_array_equal(view.encode(TEXTS, sparse=True).toarray(), vectors)


def test_a_folder_of_an_early_version_has_relative_components_also_after_a_copy(encoder, tmp_path):
    folder = tmp_path / "model"
    model_folder.save(encoder, folder)
    config = atomic_files.read_json(folder / "config.json")
    del config["zoo"]["components"]
    atomic_files.write_json(folder / "config.json", config)
    manifest.write(folder)
    early, space, texts = zoo.from_pretrained(folder), encoder.space, TEXTS[:20]
    with torch.inference_mode():
        logits = space(encoder.towers.encode_queries(texts))
        information = hierarchy.compute_pmi(logits, space.log_prior, space.level_concepts)
        values = torch.relu(information - space.threshold) * space.log_gain.exp()
        raised = hierarchy.raise_parents(values, space.edges)
        components = hierarchy.keep_largest(raised, encoder.spec.max_active, space.levels)
    expected = torch.nn.functional.normalize(components, dim=1).numpy()
    np.testing.assert_allclose(early.encode(texts), expected, atol=1e-5)
    assert np.abs(encoder.encode(texts) - expected).max() > 1e-2, "components are no longer relative"
    model_folder.save(early, tmp_path / "copy")
    np.testing.assert_array_equal(zoo.from_pretrained(tmp_path / "copy").encode(texts), early.encode(texts))


def test_an_unknown_view_option_is_refused(encoder):
    with pytest.raises(ZooError, match="has no such view option; its view options are: active, edit"):
        encoder.view(layers=3)
    with pytest.raises(ZooError, match="active: must be greater than or equal to 1"):
        encoder.view(active=0)


# -- training --------------------------------------------------------------------------------------------------------


def test_new_texts_find_their_pairs_and_get_the_right_tags(encoder):
    texts = pairs(100, seed=9)
    assert faithfulness.measure_ranking(encoder, texts["anchor"], texts["positive"]).auc > 0.8
    probabilities, levels = encoder.probabilities(texts["anchor"]), encoder.concept_list.levels
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    is_likeliest = []
    for i, row in enumerate(probabilities):
        for tag in encoder.concept_list.find_rows_with_ancestors([list(TOPICS)[i % len(TOPICS)]]):
            same_level = [j for j, level in enumerate(levels) if level == levels[tag]]
            is_likeliest.append(row[tag] == row[same_level].max())
    assert np.mean(is_likeliest) > 0.8


def test_probabilities_are_reconciled_from_a_distribution_over_each_level(encoder):
    texts = pairs(100, seed=9)["anchor"]
    with torch.inference_mode():
        log_probabilities = encoder.space.compute_log_probabilities(encoder.space(encoder.towers.encode_queries(texts)))
        expected = hierarchy.reconcile_levels(log_probabilities, encoder.space.edges).exp()
    np.testing.assert_allclose(encoder.probabilities(texts), expected, atol=1e-5)
    for columns in encoder.space.level_concepts:
        np.testing.assert_allclose(log_probabilities.exp()[:, columns].sum(1), 1, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["gru", "lstm", "backbone"])
def test_a_concept_without_tagged_texts_is_recognised_by_its_name(reader, tmp_path):
    """The name of a concept is two words. No row is tagged with the last concepts, though texts contain their words."""
    words, count, untagged = tiny.WORDS[7:43], 34, 6
    concepts = [{"id": str(i), "name": f"{words[i]} {words[i + 1]}", "parent": []} for i in range(count)]
    rng, rows = np.random.default_rng(0), []
    for i in range(600):
        concept = i % count
        anchor, positive = (
            " ".join(rng.permutation([words[concept], words[concept + 1], *rng.choice(words, 1)])) for _ in range(2)
        )
        tags = [str(concept)] if concept < count - untagged else []
        rows.append({"anchor": anchor, "positive": positive, "anchor_concepts": tags})
    options = {"backbone": tiny.backbone(tmp_path / "bert")} if reader == "backbone" else {"reader": reader}
    training = Training(epochs=8, batch_size=50, learning_rate=0.03)
    dataset, tables = Dataset.from_list(rows), {"concepts": Dataset.from_list(concepts)}
    with pytest.raises(DataError, match="without an example: 28, 29, 30, 31, 32 and 1 more;.*names: true"):
        train(tmp_path, dataset, training, tables, names=False, **options)
    one_nameless = [row | ({"name": row["id"]} if row["id"] == "30" else {}) for row in concepts]
    with pytest.raises(DataError, match="without an example: 30; .*give them names"):
        train(tmp_path, dataset, training, {"concepts": Dataset.from_list(one_nameless)}, **options)
    with pytest.warns(UserWarning, match="6 concepts without an example, known by name alone: 28, 29, 30, 31, 32, 33"):
        encoder = train(tmp_path, dataset, training, tables, **options)
    assert encoder.card_facts()["bare_count"] == untagged
    probabilities = encoder.probabilities([row["anchor"] for row in rows])
    topics = np.arange(len(rows)) % count
    areas = [
        ranking.compute_ranking_quality(probabilities[None, :, concept], topics[None] == concept).auc
        for concept in range(count - untagged, count)
    ]
    assert np.mean(areas) > 0.65


def test_the_names_that_a_step_reads_depend_on_seed_and_step_only(tmp_path, monkeypatch):
    encoder = Encoder.build(spec(tmp_path, dropout=0.0), seed=3, folder=tmp_path)
    encoder.prepare(pairs(), tmp_path / "cache")
    names_read, build_batch = [], encoder.towers.build_batch
    monkeypatch.setattr(
        encoder.towers, "build_batch", lambda side, texts: names_read.append(tuple(texts)) or build_batch(side, texts)
    )
    for seed, step in ((3, 0), (3, 1), (4, 0), (3, 0)):
        torch.manual_seed(len(names_read))
        encoder.seed, encoder.step = seed, step
        encoder._compute_name_loss(3)
    assert names_read[0] == names_read[3]
    assert len(set(names_read)) == 3


def test_the_key_of_a_text_is_the_same_in_every_process():
    assert compute_text_key("the fever rash") == 8480917588286833374
    assert compute_text_key("the fever rasp") != compute_text_key("the fever rash")
    assert 0 <= compute_text_key("\ud800") < 2**63


# -- towers ----------------------------------------------------------------------------------------------------------


def test_separate_towers_read_each_side_in_their_own_way(tmp_path):
    encoder = train(tmp_path, towers="separate")
    vectors = {side: encoder.encode(TEXTS[:9], prompt_type=side) for side in ("query", "document")}
    assert np.abs(vectors["query"] - vectors["document"]).max() > 0.05
    np.testing.assert_array_equal(encoder.encode(TEXTS[:9]), vectors["query"])
    loaded = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    for side, expected in vectors.items():
        np.testing.assert_allclose(loaded.encode(TEXTS[:9], prompt_type=side), expected, atol=1e-6)
    explanation = encoder.explain(*TEXTS[:2])
    assert explanation.score == pytest.approx(float(vectors["query"][0] @ vectors["document"][1]), abs=1e-6)
    with pytest.raises(ZooError, match="query, document"):
        encoder.encode(TEXTS[:2], prompt_type="passage")


@pytest.mark.parametrize(
    ("towers", "options"),
    [
        ("shared", {"backbone_lr_scale": 0.05}),
        ("separate", {"backbone_lr_scale": 0.05, "word_dim": 5}),
        ("shared", {}),
        ("separate", {"backbone_lr_scale": 0, "word_dim": 5}),
    ],
)
def test_a_backbone_is_saved_so_that_sentence_transformers_opens_it(towers, options, tmp_path):
    from sentence_transformers import SentenceTransformer

    training, source = TRAINING.model_copy(update={"max_steps": 4}), tiny.backbone(tmp_path / "bert")
    encoder = train(tmp_path, training=training, backbone=source, towers=towers, **options)
    model = model_folder.save(encoder, tmp_path / "model")
    np.testing.assert_allclose(zoo.from_pretrained(model).encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert (model / "document" / "model.safetensors").exists() == (towers == "separate")
    vectors = SentenceTransformer(str(model)).encode(TEXTS[:2])
    assert vectors.shape == (2, 32)
    is_unchanged = np.allclose(vectors, SentenceTransformer(str(source)).encode(TEXTS[:2]), atol=1e-5)
    assert is_unchanged == (not options.get("backbone_lr_scale"))
    assert encoder.baseline().view(edit={"head": 0.0}).encode(TEXTS[:2]).shape == (2, 32)


def test_only_the_used_parameters_of_a_backbone_are_trained_and_at_a_learning_rate_of_their_own(tmp_path):
    options = {"backbone": tiny.backbone(tmp_path / "bert"), "backbone_lr_scale": 0.1}
    encoder = Encoder.build(spec(tmp_path, **options), folder=tmp_path)
    encoder.prepare(pairs(), tmp_path / "cache")
    backbone, others = encoder.parameter_groups(TRAINING)
    assert backbone["lr"] == pytest.approx(0.1 * TRAINING.learning_rate)
    assert "lr" not in others
    named = dict(encoder.towers.by_side["query"].backbone.model.named_parameters())
    pooler = [parameter for name, parameter in named.items() if name.startswith("pooler.")]
    assert pooler
    trained = {id(parameter) for group in (backbone, others) for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in pooler}
    assert trained >= {id(parameter) for parameter in encoder.space.parameters()}


def test_a_frozen_backbone_reads_a_text_once_and_gives_the_vectors_of_encode(tmp_path, monkeypatch):
    batch_sizes, forward = [], PooledBackbone.forward

    def count_texts(self, batch):
        batch_sizes.append(len(batch["input_ids"]))
        return forward(self, batch)

    monkeypatch.setattr(PooledBackbone, "forward", count_texts)
    options = {"backbone": tiny.backbone(tmp_path / "bert"), "backbone_lr_scale": 0, "word_dim": 5}
    encoder = train(tmp_path, **options)
    rows = pairs()
    assert sum(batch_sizes) == len({*rows["anchor"], *rows["positive"], *encoder.concept_list.names})
    texts = rows["anchor"][:7]
    looked_up = encoder.towers.compute_vectors("query", encoder.towers.build_batch("query", texts))
    tower = encoder.towers.get_tower("query")
    computed = tower.module(tower.pad(tower.tokenize(texts)))
    torch.testing.assert_close(looked_up, computed, atol=1e-5, rtol=1e-4)
    batch_sizes.clear()
    train(tmp_path, **options)
    assert not batch_sizes, "the second run reads the vectors from the cache"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "x", "hidden": 7}, "`hidden` belongs to towers that are learned from the texts alone"),
        ({"word_dim": 5}, "`word_dim` needs a `backbone`"),
        ({"revision": "main"}, "`revision` needs a `backbone`"),
        ({"parent_concepts": {"train": {"source": "file", "path": "a.json"}}}, "a list cannot be called 'train'"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Spec(family="sesa", concepts={"source": "file", "path": "concepts.json"}, **options)


# -- explanations ----------------------------------------------------------------------------------------------------


def test_contributions_sum_to_the_score_and_deleting_a_concept_removes_its_contribution(encoder):
    deletions = 0
    for a, b in zip(TEXTS[:20], TEXTS[5:25], strict=True):
        left, right = encoder.encode([a])[0], encoder.encode([b])[0]
        score = float(left @ right)
        for top in (0, 1, 5, 99):
            explanation = encoder.explain(a, b, top=top)
            assert len(explanation.parts) <= top
            assert explanation.score == pytest.approx(score, abs=1e-5)
            assert sum(part.value for part in explanation.parts) + explanation.rest == pytest.approx(score, abs=1e-5)
        for part in explanation.parts:
            edited = encoder.edit({part.id: 0}).explain(a, b, top=99)
            assert part.id not in [other.id for other in edited.parts]
            row = encoder.concept_list.row_by_id[part.id]
            norms = np.sqrt((1 - left[row] ** 2) * (1 - right[row] ** 2))  # edited vectors have unit length again
            assert edited.score * norms == pytest.approx(score - part.value, abs=1e-5)
        deletions += len(explanation.parts)
    assert deletions > 30


def test_an_edit_multiplies_contributions_and_changes_the_ranking(encoder):
    concepts, vectors = encoder.concept_list, encoder.encode(TEXTS)
    ranking_before = (vectors @ vectors.T).argsort(axis=1)
    for weights in ({"guitar": 0.0}, {"illness": 0.0, "injury": 0.0}, {"bones": 20.0, "head": 0.5}):
        factors = np.ones(len(concepts))
        factors[[concepts.row_by_id[concept] for concept in weights]] = list(weights.values())
        products = (vectors * factors) @ vectors.T
        norms = np.sqrt(np.diag(products))
        edited = encoder.edit(weights).encode(TEXTS)
        scores = edited @ edited.T
        np.testing.assert_allclose(scores, products / np.maximum(norms[:, None] * norms, 1e-9), atol=1e-5)
        assert (ranking_before != scores.argsort(axis=1)).any()


def test_an_edit_takes_ids_and_names_and_refuses_other_words(encoder):
    by_name = encoder.edit({"About guitar": 0})
    np.testing.assert_array_equal(by_name.encode(TEXTS), encoder.edit({"guitar": 0}).encode(TEXTS))
    assert by_name.edit({"head": 2}).view_options["edit"] == {"About guitar": 0, "head": 2}
    for weights, message in (
        ({"gitar": 0}, "did you mean guitar"),
        ({"guitar": -1}, "greater than"),
        ({"head": "x"}, "valid number"),
    ):
        with pytest.raises(ZooError, match=message):
            encoder.edit(weights)


def test_the_most_active_concepts_of_a_text_are_those_of_its_topic(encoder):
    are_found = []
    for i, text in enumerate(pairs(50, seed=9)["anchor"]):
        rows = encoder.concept_list.find_rows_with_ancestors([list(TOPICS)[i % len(TOPICS)]])
        expected = {encoder.concept_list.ids[row] for row in rows}
        are_found.append(expected <= {concept.id for concept in encoder.concepts(text, top=3)})
    assert np.mean(are_found) > 0.6
    values = [concept.value for concept in encoder.concepts(TEXTS[0], top=9)]
    assert values == sorted(values, reverse=True)
    assert min(values) > 0


def test_an_opaque_space_explains_nothing(tmp_path):
    opaque = train(tmp_path, training=TRAINING.model_copy(update={"max_steps": 2}), space="opaque")
    for use in (lambda: opaque.explain("a", "b"), lambda: opaque.concepts("a"), lambda: opaque.probabilities(["a"])):
        with pytest.raises(ZooError, match="have no names"):
            use()
    with pytest.raises(ZooError, match="an opaque space has no concepts: remove `edit`"):
        opaque.edit({"guitar": 0})


def test_the_command_line_explains_a_score(encoder, tmp_path, capsys):
    model = str(model_folder.save(encoder, tmp_path / "model"))
    assert main.main(["explain", model, *TEXTS[:2], "--top", "2"]) == 0
    assert "all others" in capsys.readouterr().out
    assert main.main(["explain", model, *TEXTS[:2], "--json", "--view", "edit={guitar: 0}"]) == 0
    explanation = json.loads(capsys.readouterr().out)
    total = sum(part["value"] for part in explanation["parts"]) + explanation["rest"]
    assert total == pytest.approx(explanation["score"], abs=1e-5)
    assert "guitar" not in [part["id"] for part in explanation["parts"]]
    assert main.main(["explain", model, *TEXTS[:2], "--view", "edit={gitar: 0}"]) == 1
    assert "did you mean guitar" in capsys.readouterr().err
    other_family = tiny.backbone(tmp_path / "bert")
    assert main.main(["explain", other_family, "a", "b"]) == 1
    assert "cannot explain" in capsys.readouterr().err


# -- index -----------------------------------------------------------------------------------------------------------


def test_the_index_finds_what_the_whole_matrix_ranks_first(encoder, tmp_path, monkeypatch):
    documents = list(dict.fromkeys(TEXTS))
    path = tmp_path / "index.safetensors"
    encoder.index(documents).save(path)
    items, scores = encoder.search(InvertedIndex.load(path), TEXTS[:9], top=7)
    all_scores = encoder.encode(TEXTS[:9]) @ encoder.encode(documents).T
    np.testing.assert_allclose(scores, -np.sort(-all_scores, axis=1)[:, :7], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(all_scores, items, 1), scores, atol=1e-6)
    assert (np.diff(items)[np.diff(scores) == 0] > 0).all(), "equal scores keep the order of the items"
    monkeypatch.setattr(inverted_index, "MAX_SCORES", 2 * len(documents))
    np.testing.assert_array_equal(encoder.search(InvertedIndex.load(path), TEXTS[:9], top=7)[0], items)
    with pytest.raises(ZooError, match="queries have 3 components, but the index has 7"):
        InvertedIndex.load(path).search(encoder.encode(documents, sparse=True)[:, :3])


def test_a_damaged_index_is_refused(encoder, tmp_path):
    path = tmp_path / "index.safetensors"
    encoder.index(TEXTS).save(path)
    content = path.read_bytes()
    for damaged in (content[:-4], b"", content[:200] + b"\xff" * 8 + content[208:]):
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="index"):
            InvertedIndex.load(path)


def test_sentence_transformers_searches_the_same_vectors(encoder):
    from sentence_transformers.util import semantic_search

    documents = encoder.encode(TEXTS, sparse="torch")
    np.testing.assert_array_equal(documents.to_dense().numpy(), encoder.encode(TEXTS))
    hits = semantic_search(
        encoder.encode(TEXTS[:5], sparse="torch"),
        documents,
        top_k=3,
        score_function=lambda a, b: torch.sparse.mm(a, b.t()).to_dense(),
    )
    _, scores = encoder.search(encoder.index(TEXTS), TEXTS[:5], top=3)
    np.testing.assert_allclose([[hit["score"] for hit in query_hits] for query_hits in hits], scores, atol=1e-5)


# -- mistakes in data ------------------------------------------------------------------------------------------------


def test_a_wrong_tag_is_reported_before_training(tmp_path):
    rows = pairs(12).to_list()
    rows[4]["anchor_concepts"] = ["guitar", "bonse"]
    message = "row 5: anchor_concepts: concept 'bonse' is not in the list; did you mean bones"
    with pytest.raises(DataError, match=f"data: {message}"):
        train(tmp_path, Dataset.from_list(rows))
    encoder = Encoder.build(spec(tmp_path), folder=tmp_path)
    encoder.prepare(pairs(12), tmp_path / "cache")
    with pytest.raises(DataError, match=f"validation: {message}"):
        encoder.fit(pairs(12), TRAINING, tmp_path / "run", validation=Dataset.from_list(rows))
    assert not (tmp_path / "run").exists()


def test_an_untrained_encoder_says_so(tmp_path):
    encoder = Encoder.build(spec(tmp_path))
    for use in (lambda: encoder.encode(["a"]), lambda: encoder.save(tmp_path / "model"), lambda: encoder.collate([])):
        with pytest.raises(ZooError, match="has not been trained: call `prepare` and `fit` first"):
            use()


def test_tags_are_read_from_a_csv_file(tmp_path):
    from zoo import data
    from zoo.data.spec import FileData

    lines = 'anchor,positive,tags\na b,c d,"[""guitar"", ""head""]"\ne f,g h,guitar\ni j,k l,\n'
    (tmp_path / "pairs.csv").write_text(lines)
    source = FileData(source="file", path="pairs.csv", columns={"anchor_concepts": "tags"})
    rows = data.read(source, *spec(tmp_path).roles(), folder=tmp_path).rows
    assert list(rows["anchor_concepts"]) == [["guitar", "head"], ["guitar"], []]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[0]]}',
        '{"format": 1, "ids": ["a", "a"], "names": ["a", "b"], "parents": [[], []]}',
        '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[7]]}',
        '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[]]}',
    ],
)
def test_a_folder_whose_concepts_do_not_fit_is_refused(encoder, content, tmp_path):
    model = model_folder.save(encoder, tmp_path / "model")
    (model / "concepts.json").write_text(content)
    manifest.write(model)
    with pytest.raises(ArtefactError, match="list of concepts|weights do not fit"):
        zoo.from_pretrained(model)


# -- recipe and card -------------------------------------------------------------------------------------------------

RECIPE = """\
name: miniature
encoder:
  family: sesa
  concepts: {source: file, path: concepts.json}
  held_out: {source: file, path: test.jsonl}
  vocab_size: 120
  dim: 12
  hidden: 8
data: {source: file, path: train.jsonl}
training: {epochs: 25, batch_size: 20, learning_rate: 0.02}
evaluation:
  - task: retrieval
    data: {source: file, path: test.jsonl, columns: {query: anchor, document: positive}}
    views: [{}, {active: 2}]
"""


@pytest.mark.slow
def test_a_recipe_trains_the_opaque_baseline_too_and_the_card_shows_the_measurements(tmp_path):
    from zoo.build.builder import run

    (tmp_path / "concepts.json").write_text(json.dumps(LIST))
    for name, count, seed in (("train", 60, 0), ("test", 40, 9)):
        lines = [json.dumps(row) + "\n" for row in pairs(count, seed).to_list()]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "r.yaml").write_text(RECIPE)
    run_folder = tmp_path / "run"
    model = run_folder / "model"
    encoder = run(zoo.load_recipe(tmp_path / "r.yaml"), run_folder)
    facts = atomic_files.read_json(model / "config.json")["zoo"]["facts"]
    assert set(facts["ranking"]) == {"concepts", "opaque"}
    assert facts["deletion"]["explained"][0] == facts["deletion"]["random"][0]
    assert 0 <= facts["deleted_more"] <= 1
    assert encoder.card_facts()["examples"] == facts["examples"]
    assert (run_folder / "twin" / "metrics.jsonl").exists()
    assert not (run_folder / "twin" / "checkpoints").exists()
    card = (model / "README.md").read_text()
    assert "plots/deletion.png" in card
    assert (model / "plots" / "deletion.png").exists()
    names = {part["name"] for example in facts["examples"] for part in example["parts"]}
    assert names
    assert all(name in card for name in names)
    assert "opaque baseline" in card
    locked = atomic_files.read_json(run_folder / "lock.json")["data"]
    assert {"train", "concepts", "held_out"} <= set(locked)
    (tmp_path / "test.jsonl").write_text('{"anchor": "a", "positive": "b", "anchor_concepts": ["nowhere"]}\n')
    with pytest.raises(ZooError, match="held_out: row 1: anchor_concepts: concept 'nowhere' is not in the list"):
        run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "other")
    assert not (tmp_path / "other" / "metrics.jsonl").exists()
