"""SESA: a space of named concepts that are non-negative, sparse, ordered by their hierarchy, and that explain every score."""

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
from zoo.families.sesa import faithfulness, hierarchy, inverted_index, objectives
from zoo.families.sesa.concept_space import ConceptSpace
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.encoder import Encoder
from zoo.families.sesa.inverted_index import InvertedIndex
from zoo.families.sesa.spec import Spec
from zoo.metrics import ranking
from zoo.schema import Training

TOPICS = {  # leaf: its parent, and words that speak of it
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


def pairs(count: int = 60, seed: int = 0) -> Dataset:
    """Two texts of the words of one topic; a third of the rows without a tag."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        topic = list(TOPICS)[i % len(TOPICS)]
        words = TOPICS[topic][1].split()
        texts = [" ".join(["the", *draw.choice(words, 3), "of"]) for _ in range(2)]
        tags = [topic] if i % 3 else []
        rows.append({"anchor": texts[0], "positive": texts[1], "anchor_concepts": tags, "positive_concepts": tags})
    return Dataset.from_list(rows)


def spec(folder, **options) -> Spec:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "concepts.json").write_text(json.dumps(LIST))
    small = {} if "backbone" in options else {"vocab_size": 120, "dim": 12, "hidden": 8}
    return Spec(
        family="sesa",
        concepts={"source": "file", "path": "concepts.json"},
        **(small | {"max_active": 6, "supervision": 1.0} | options),
    )


TRAINING = Training(epochs=25, batch_size=20, learning_rate=0.02)


def contract(folder) -> Contract:
    inputs = [*pairs(9, seed=1)["anchor"], "a text of other words", "\N{SNOWMAN}"]
    return Contract(spec(folder), pairs(), TRAINING, inputs, {"active": 3}, folder)


def build(folder, rows=None, training=TRAINING, tables=None, **options) -> Encoder:
    encoder = Encoder.build(spec(folder, **options), seed=3, folder=folder)
    encoder.tables = tables or {}
    rows = pairs() if rows is None else rows
    encoder.prepare(rows, folder / "cache")
    encoder.fit(rows, training, folder / "run")
    encoder.finish(rows)
    return encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Encoder:
    return build(tmp_path_factory.mktemp("sesa"))


TEXTS = [*pairs(40, seed=5)["anchor"], *tiny.SENTENCES[:40], "", "zzz"]


# -- the space -------------------------------------------------------------------------------------------------------


def test_vectors_are_sparse_of_unit_norm_and_no_parent_is_below_its_child(encoder):
    for view in (encoder, encoder.view(active=3), encoder.view(active=1)):
        vectors = view.encode(TEXTS)
        assert (vectors >= 0).all()
        assert ((vectors > 0).sum(1) <= (view.view_options.get("active") or 6)).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        for child, parents in enumerate(encoder.concept_list.parents):
            for parent in parents:
                assert (vectors[:, parent] >= vectors[:, child]).all()
        np.testing.assert_array_equal(view.encode(TEXTS, sparse=True).toarray(), vectors)


def test_a_hierarchy_of_any_shape_is_respected_and_what_is_left_of_it_is_closed_upwards():
    draw = np.random.default_rng(0)
    parents = [tuple(int(p) for p in draw.choice(i, min(i, 2), replace=False)) if i > 3 else () for i in range(40)]
    listed = Concepts(tuple(map(str, range(40))), tuple(map(str, range(40))), tuple(parents))
    values = torch.from_numpy(draw.random((30, 40), dtype=np.float32))
    lifted = hierarchy.raise_parents(values, hierarchy.build_edges(parents, listed.levels))
    below = [[c for c in range(40) if p in listed.ancestors[c]] for p in range(40)]
    oracle = torch.stack([values[:, [p, *below[p]]].amax(1) for p in range(40)], dim=1)
    torch.testing.assert_close(lifted, oracle)
    for count in (1, 5, 17, 40):
        kept = hierarchy.keep_largest(lifted, count, torch.tensor(listed.levels))
        assert ((kept > 0).sum(1) <= count).all()
        for child, above in enumerate(parents):
            assert all((kept[:, p] >= kept[:, child]).all() for p in above)
        np.testing.assert_allclose(kept.sum(1), lifted.topk(count, dim=1).values.sum(1), rtol=1e-4)


def test_a_folder_of_an_earlier_version_keeps_its_relative_components(encoder, tmp_path):
    folder = tmp_path / "model"
    model_folder.save(encoder, folder)
    config = atomic_files.read_json(folder / "config.json")
    del config["zoo"]["components"]
    atomic_files.write_json(folder / "config.json", config)
    manifest.write(folder)
    opened, space, texts = zoo.from_pretrained(folder), encoder.space, TEXTS[:20]
    with torch.inference_mode():
        raw = space(encoder.towers.encode_queries(texts))
        told = (
            torch.relu(hierarchy.compute_pmi(raw, space.log_prior, space.level_concepts) - space.threshold)
            * space.log_gain.exp()
        )
        kept = hierarchy.keep_largest(hierarchy.raise_parents(told, space.edges), encoder.spec.max_active, space.levels)
    expected = torch.nn.functional.normalize(kept, dim=1).numpy()
    np.testing.assert_allclose(opened.encode(texts), expected, atol=1e-5)
    assert np.abs(encoder.encode(texts) - expected).max() > 1e-2, "those of today are other ones"
    model_folder.save(opened, tmp_path / "again")
    np.testing.assert_array_equal(zoo.from_pretrained(tmp_path / "again").encode(texts), opened.encode(texts))


def test_information_is_the_logarithm_of_a_ratio_of_probabilities():
    raw, prior = torch.randn(4, 5), torch.tensor([0.2, 0.8, 0.5, 0.3, 0.2]).log()
    groups = [torch.tensor([0, 1]), torch.tensor([2, 3, 4])]
    gain = hierarchy.compute_pmi(raw, prior, groups)
    for rows in groups:
        p = torch.softmax(raw[:, rows] + prior[rows], dim=1)
        torch.testing.assert_close(gain[:, rows], (p / prior[rows].exp()).log())


def test_components_begin_as_near_as_vectors_are_and_concepts_where_their_examples_are():
    listed = Concepts(tuple(map(str, range(60))), tuple(map(str, range(60))), ((),) * 60)
    unit, draw = torch.nn.functional.normalize, torch.Generator().manual_seed(0)
    names, centres = (unit(torch.randn(60, 16, generator=draw) + 0.7, dim=1) for _ in "ab")
    about = torch.arange(240) % 60
    texts, fresh = (unit(centres[about] + 0.1 * torch.randn(240, 16, generator=draw), dim=1) for _ in "ab")
    space, right = ConceptSpace(listed, 16, opaque=True), {}
    for told in (False, True):
        space.initialise_weights(names, texts, [[int(c)] if told else [] for c in about])
        raw, centred = space(texts).detach(), texts - texts.mean(0)
        torch.testing.assert_close(unit(raw) @ unit(raw).T, unit(centred) @ unit(centred).T, atol=1e-4, rtol=1e-3)
        own = unit(space.weight.detach(), dim=1) @ unit(names - names.mean(0), dim=1).T
        right[told] = (
            (space(fresh).argmax(1) == about).float().mean(),
            (own.argmax(1) == torch.arange(60)).float().mean(),
        )
    assert right[False][1] > 0.8
    assert right[True][0] > right[False][0] + 0.3


# -- the objective ---------------------------------------------------------------------------------------------------


def test_rows_that_share_a_text_are_no_negatives_of_each_other():
    a = torch.nn.functional.normalize(torch.randn(4, 6), dim=1)
    b = torch.nn.functional.normalize(torch.randn(4, 6), dim=1)
    keys = torch.tensor([[1, 1, 2, 3], [1, 2, 3, 4]])
    logits = (a @ b.T * 9).numpy()
    expected = 0.0
    for i in range(4):
        for row in (logits, logits.T):
            others = [j for j in range(4) if j == i or not (i in (0, 1) and j in (0, 1))]
            expected -= row[i, i] - np.log(np.exp(row[i, others]).sum())
    assert objectives.compute_ranking_loss(a, b, keys, 1 / 9.0).item() == pytest.approx(expected / 8, rel=1e-5)


def test_a_row_without_tags_is_no_example_of_anything():
    told = torch.randn(3, 4).log_softmax(1).requires_grad_()
    tags = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]).bool()
    objectives.compute_tagging_loss(told, tags, [torch.arange(4)]).backward()
    assert told.grad[1].abs().sum() == 0
    assert (told.grad[[0, 2]].abs().sum(1) > 0).all()
    assert objectives.compute_tagging_loss(told, torch.zeros_like(tags), [torch.arange(4)]).item() == 0


def test_pairs_are_found_and_tags_are_told_of_texts_never_seen(encoder):
    held = pairs(100, seed=9)
    assert faithfulness.measure_ranking(encoder, held["anchor"], held["positive"]).auc > 0.8
    told, levels, right = encoder.probabilities(held["anchor"]), encoder.concept_list.levels, []
    for i, row in enumerate(told):
        topic = list(TOPICS)[i % len(TOPICS)]
        tags = encoder.concept_list.find_rows_with_ancestors([topic])
        right += [row[tag] == row[[j for j, n in enumerate(levels) if n == levels[tag]]].max() for tag in tags]
    assert np.mean(right) > 0.8
    assert ((told >= 0) & (told <= 1)).all()
    with torch.inference_mode():
        own = encoder.space.compute_log_probabilities(
            encoder.space(encoder.towers.encode_queries(held["anchor"]))
        ).exp()
        agreed = hierarchy.reconcile_levels(own.log(), encoder.space.edges).exp()
    np.testing.assert_allclose(told, agreed, atol=1e-5)
    for level in (0, 1):
        columns = [i for i, n in enumerate(levels) if n == level]
        np.testing.assert_allclose(own[:, columns].sum(1), 1, atol=1e-4)


def test_levels_agree_on_what_a_text_is_about():
    """By hand: the root r of two inner concepts, x of which has the leaves a and b, and y is a leaf; z has no one above."""
    names, above = "rxyabz", ((), (0,), (0,), (1,), (1,), ())
    listed = Concepts(tuple(names), tuple(names), above)
    told = torch.tensor([[0.7, 0.6, 0.4, 0.5, 0.5, 0.3], [0.9, 0.2, 0.8, 0.1, 0.9, 0.1]])
    r, x, y, a, b, z = told.double().T
    found = hierarchy.reconcile_levels(told.double().log(), hierarchy.build_edges(above, listed.levels)).exp()
    root = (r * (a + b + y)).sqrt()
    inner, leaf = (x * (a + b)).sqrt() * root.sqrt(), y * root.sqrt()
    expected = torch.stack([root, inner, leaf, a * inner.sqrt(), b * inner.sqrt(), z], dim=1)
    torch.testing.assert_close(found, expected)
    flat = hierarchy.build_edges(((),) * 6, (0,) * 6)
    torch.testing.assert_close(hierarchy.reconcile_levels(told.log(), flat), told.log())
    diamond = ((), (), (0, 1), (2, 0))  # mass goes in equal parts to all above
    p = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).double()
    found = hierarchy.reconcile_levels(
        p.log(), hierarchy.build_edges(diamond, Concepts(tuple("abcd"), tuple("abcd"), diamond).levels)
    ).exp()
    tops = torch.tensor([0.5 * 0.75, 0.5 * 0.25]).double().sqrt()
    middle = (1.0 * 0.5) ** 0.5 * tops.max().sqrt()
    torch.testing.assert_close(found[0], torch.stack([*tops, middle, torch.maximum(middle, tops[0]).sqrt()]))


@pytest.mark.parametrize("reader", ["gru", "lstm", "backbone"])
def test_a_concept_without_one_example_is_told_by_its_name(reader, tmp_path):
    """Concepts are named by two words; of the last ones no row says so, though texts with their words are there."""
    words, count, unseen = tiny.WORDS[7:43], 34, 6
    listed = [{"id": str(i), "name": f"{words[i]} {words[i + 1]}", "parent": []} for i in range(count)]
    draw, rows = np.random.default_rng(0), []
    for i in range(600):
        texts = [
            " ".join(draw.permutation([words[i % count], words[i % count + 1], *draw.choice(words, 1)])) for _ in "ab"
        ]
        tags = [str(i % count)] if i % count < count - unseen else []
        rows.append({"anchor": texts[0], "positive": texts[1], "anchor_concepts": tags})
    options = {"backbone": tiny.backbone(tmp_path / "bert")} if reader == "backbone" else {"reader": reader}
    training, tables = Training(epochs=8, batch_size=50, learning_rate=0.03), {"concepts": Dataset.from_list(listed)}
    with pytest.raises(DataError, match="without an example: 28, 29, 30, 31, 32 and 1 more;.*names: true"):
        build(tmp_path, Dataset.from_list(rows), training, tables, names=False, **options)
    nameless = [row | ({"name": row["id"]} if row["id"] == "30" else {}) for row in listed]
    with pytest.raises(DataError, match="without an example: 30; .*give them names"):
        build(tmp_path, Dataset.from_list(rows), training, {"concepts": Dataset.from_list(nameless)}, **options)
    with pytest.warns(UserWarning, match="6 concepts without an example, known by name alone: 28, 29, 30, 31, 32, 33"):
        encoder = build(tmp_path, Dataset.from_list(rows), training, tables, **options)
    assert encoder.card_facts()["bare_count"] == unseen
    told = encoder.probabilities([row["anchor"] for row in rows])
    about = np.array([i % count for i in range(len(rows))])
    areas = [ranking.quality(told[None, :, c], about[None] == c).auc for c in range(count - unseen, count)]
    assert np.mean(areas) > 0.65


def test_separate_towers_read_each_side_in_their_own_way(tmp_path):
    encoder = build(tmp_path, towers="separate")
    vectors = {role: encoder.encode(TEXTS[:9], prompt_type=role) for role in ("query", "document")}
    assert np.abs(vectors["query"] - vectors["document"]).max() > 0.05
    np.testing.assert_array_equal(encoder.encode(TEXTS[:9]), vectors["query"])
    again = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    for role, expected in vectors.items():
        np.testing.assert_allclose(again.encode(TEXTS[:9], prompt_type=role), expected, atol=1e-6)
    found = encoder.explain(*TEXTS[:2])
    assert found.score == pytest.approx(float(vectors["query"][0] @ vectors["document"][1]), abs=1e-6)
    with pytest.raises(ZooError, match="query, document"):
        encoder.encode(TEXTS[:2], prompt_type="passage")


@pytest.mark.parametrize(
    ("towers", "options"),
    [
        ("shared", {}),
        ("separate", {"word_dim": 5}),
        ("shared", {"backbone_lr_scale": 0}),
        ("separate", {"backbone_lr_scale": 0, "word_dim": 5}),
    ],
)
def test_a_backbone_is_a_tower_and_opens_without_zoo(towers, options, tmp_path):
    from sentence_transformers import SentenceTransformer

    training, source = TRAINING.model_copy(update={"max_steps": 4}), tiny.backbone(tmp_path / "bert")
    encoder = build(tmp_path, training=training, backbone=source, towers=towers, **options)
    model = model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(model)
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert (model / "document" / "model.safetensors").exists() == (towers == "separate")
    vectors = SentenceTransformer(str(model)).encode(TEXTS[:2])
    assert vectors.shape == (2, 32)
    as_before = np.allclose(vectors, SentenceTransformer(str(source)).encode(TEXTS[:2]), atol=1e-5)
    assert as_before == ("backbone_lr_scale" in options)
    assert encoder.baseline().view(edit={"head": 0.0}).encode(TEXTS[:2]).shape == (2, 32)
    for wrong, match in (
        ({"backbone": "x", "hidden": 7}, "belongs to towers that are learned from the texts"),
        ({"word_dim": 5}, "needs a `backbone`"),
    ):
        with pytest.raises(ValueError, match=match):
            Spec(family="sesa", concepts=encoder.spec.concepts, **wrong)


def test_a_frozen_backbone_reads_a_text_once_and_as_encode_does(tmp_path, monkeypatch):
    from zoo.families.sesa.tower_modules import PooledBackbone

    read, forward = [], PooledBackbone.forward
    monkeypatch.setattr(
        PooledBackbone, "forward", lambda self, batch: read.append(len(batch["input_ids"])) or forward(self, batch)
    )
    options = {"backbone": tiny.backbone(tmp_path / "bert"), "backbone_lr_scale": 0, "word_dim": 5}
    encoder = build(tmp_path, **options)
    rows = pairs()
    assert sum(read) == len({*rows["anchor"], *rows["positive"], *encoder.concept_list.names})
    texts = rows["anchor"][:7]
    held = encoder.towers.compute_vectors("query", encoder.towers.build_batch("query", texts))
    fresh = encoder.towers.get_tower("query")
    whole = fresh.module(fresh.pad(fresh.tokenize(texts)))
    torch.testing.assert_close(held, whole, atol=1e-5, rtol=1e-4)
    read.clear()
    build(tmp_path, **options)
    assert not read  # from the cache


# -- explanations ----------------------------------------------------------------------------------------------------


def test_contributions_sum_to_the_score_and_deleting_them_changes_it(encoder):
    deleted = 0
    for a, b in zip(TEXTS[:20], TEXTS[5:25], strict=True):
        left, right = encoder.encode([a])[0], encoder.encode([b])[0]
        score = float(left @ right)
        for top in (0, 1, 5, 99):
            found = encoder.explain(a, b, top=top)
            assert len(found.parts) <= top
            assert found.score == pytest.approx(score, abs=1e-5)
            assert sum(each.value for each in found.parts) + found.rest == pytest.approx(score, abs=1e-5)
        for part in found.parts:
            without = encoder.edit({part.id: 0}).explain(a, b, top=99)
            assert part.id not in [each.id for each in without.parts]
            row = encoder.concept_list.row_by_id[part.id]  # what is left is brought to unit length again
            sizes = np.sqrt((1 - left[row] ** 2) * (1 - right[row] ** 2))
            assert without.score * sizes == pytest.approx(score - part.value, abs=1e-5)
        deleted += len(found.parts)
    assert deleted > 30


def test_the_ranking_follows_an_edit(encoder):
    """A contribution counts as often as it is told to, and other texts come first."""
    listed, vectors = encoder.concept_list, encoder.encode(TEXTS)
    before, changed = (vectors @ vectors.T).argsort(axis=1), 0
    for weights in ({"guitar": 0.0}, {"illness": 0.0, "injury": 0.0}, {"bones": 20.0, "head": 0.5}):
        factors = np.ones(len(listed))
        factors[[listed.row_by_id[name] for name in weights]] = list(weights.values())
        expected = (vectors * factors) @ vectors.T
        sizes = np.sqrt(np.diag(expected))
        found = encoder.edit(weights).encode(TEXTS)
        np.testing.assert_allclose(found @ found.T, expected / np.maximum(sizes[:, None] * sizes, 1e-9), atol=1e-5)
        changed += (before != (found @ found.T).argsort(axis=1)).any()
    assert changed == 3
    by_name = encoder.edit({"About guitar": 0})
    np.testing.assert_array_equal(by_name.encode(TEXTS), encoder.edit({"guitar": 0}).encode(TEXTS))
    assert by_name.edit({"head": 2}).view_options["edit"] == {"About guitar": 0, "head": 2}
    for wrong, match in (
        ({"gitar": 0}, "did you mean guitar"),
        ({"guitar": -1}, "greater than"),
        ({"head": "x"}, "valid"),
    ):
        with pytest.raises(ZooError, match=match):
            encoder.edit(wrong)


def test_what_a_text_is_about(encoder):
    right = []
    for i, text in enumerate(pairs(50, seed=9)["anchor"]):
        tags = {
            encoder.concept_list.ids[row]
            for row in encoder.concept_list.find_rows_with_ancestors([list(TOPICS)[i % len(TOPICS)]])
        }
        right.append(tags <= {each.id for each in encoder.concepts(text, top=3)})
    assert np.mean(right) > 0.6
    values = [each.value for each in encoder.concepts(TEXTS[0], top=9)]
    assert values == sorted(values, reverse=True)
    assert min(values) > 0


def test_the_command_line_explains(encoder, tmp_path, capsys):
    model = str(model_folder.save(encoder, tmp_path / "model"))
    assert main.main(["explain", model, *TEXTS[:2], "--top", "2"]) == 0
    table = capsys.readouterr().out
    assert "all others" in table
    assert main.main(["explain", model, *TEXTS[:2], "--json", "--view", "edit={guitar: 0}"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(each["value"] for each in told["parts"]) + told["rest"] == pytest.approx(told["score"], abs=1e-5)
    assert "guitar" not in [each["id"] for each in told["parts"]]
    assert main.main(["explain", model, *TEXTS[:2], "--view", "edit={gitar: 0}"]) == 1
    assert "did you mean guitar" in capsys.readouterr().err
    plain = tiny.backbone(tmp_path / "bert")
    assert main.main(["explain", plain, "a", "b"]) == 1
    assert "cannot explain" in capsys.readouterr().err


# -- index -----------------------------------------------------------------------------------------------------------


def test_the_index_finds_what_the_whole_matrix_ranks_first(encoder, tmp_path):
    documents = list(dict.fromkeys(TEXTS))
    index = encoder.index(documents)
    index.save(tmp_path / "index.safetensors")
    places, scores = encoder.search(InvertedIndex.load(tmp_path / "index.safetensors"), TEXTS[:9], top=7)
    every = encoder.encode(TEXTS[:9]) @ encoder.encode(documents).T
    np.testing.assert_allclose(scores, -np.sort(-every, axis=1)[:, :7], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(every, places, 1), scores, atol=1e-6)
    assert (np.diff(places[0])[np.diff(scores[0]) == 0] > 0).all()
    sparse = encoder.encode(documents, sparse=True)
    np.testing.assert_array_equal(
        encoder.encode(documents, sparse="torch").to_dense().numpy(), encoder.encode(documents)
    )
    with pytest.raises(ZooError, match="components"):
        index.search(sparse[:, :3])
    whole = (tmp_path / "index.safetensors").read_bytes()
    for damaged in (whole[:-4], b"", whole[:200] + b"\xff" * 8 + whole[208:]):
        (tmp_path / "bad.safetensors").write_bytes(damaged)
        with pytest.raises(ArtefactError):
            InvertedIndex.load(tmp_path / "bad.safetensors")


def test_sentence_transformers_searches_the_same_vectors(encoder):
    from sentence_transformers.util import semantic_search

    vectors = inverted_index.to_torch(encoder.encode(TEXTS, sparse=True))
    asked = encoder.encode(TEXTS[:5], sparse="torch")
    found = semantic_search(asked, vectors, top_k=3, score_function=lambda a, b: torch.sparse.mm(a, b.t()).to_dense())
    _, scores = encoder.search(encoder.index(TEXTS), TEXTS[:5], top=3)
    np.testing.assert_allclose([[hit["score"] for hit in hits] for hits in found], scores, atol=1e-5)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "match"),
    [
        (
            [{"id": "a"}, {"id": "b"}, {"id": "a", "name": "other"}],
            "'a' appears twice in the list, as 'a' and as 'other'",
        ),
        ([{"id": "a", "parent": ["c"]}, {"id": "b", "parent": ["a"]}, {"id": "c", "parent": ["b"]}], "a → c → b → a"),
        ([{"id": "a", "parent": ["a"]}], "a → a"),
        (
            [{"id": "heart", "parent": []}, {"id": "b", "parent": ["haert"]}],
            "'haert' is not in the list; did you mean heart",
        ),
    ],
)
def test_a_list_that_is_no_hierarchy_is_refused(listed, match):
    with pytest.raises(DataError, match=match):
        Concepts.from_rows(listed)


def test_further_lists_may_repeat_themselves_but_not_contradict():
    above = [{"id": "x", "name": "X"}, {"id": "x", "name": "X"}]
    assert Concepts.from_rows([{"id": "a", "parent": ["x"]}], [above]).ids == ("a", "x")
    with pytest.raises(DataError, match="'x' appears twice"):
        Concepts.from_rows([{"id": "a", "parent": ["x"]}], [[*above, {"id": "x", "name": "Y"}]])


def test_what_is_wrong_with_the_data_is_named_before_training(tmp_path):
    rows = pairs(12).to_list()
    rows[4]["anchor_concepts"] = ["guitar", "bonse"]
    with pytest.raises(
        DataError, match="data: row 5: anchor_concepts: concept 'bonse' is not in the list; did you mean bones"
    ):
        build(tmp_path, Dataset.from_list(rows))
    assert not (tmp_path / "run").exists()
    encoder = Encoder.build(spec(tmp_path), folder=tmp_path)
    encoder.prepare(pairs(12), tmp_path)
    with pytest.raises(DataError, match="validation: row 5"):
        encoder.fit(pairs(12), TRAINING, tmp_path / "run", validation=Dataset.from_list(rows))
    with pytest.raises(ZooError, match="not been trained"):
        Encoder.build(spec(tmp_path)).encode(["a"])


def test_tags_come_from_any_file(tmp_path):
    lines = 'anchor,positive,tags\na b,c d,"[""guitar"", ""head""]"\ne f,g h,guitar\ni j,k l,\n'
    (tmp_path / "pairs.csv").write_text(lines)
    from zoo import data
    from zoo.data.spec import FileData

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
    from zoo.artefact import manifest

    model = model_folder.save(encoder, tmp_path / "model")
    (model / "concepts.json").write_text(content)
    manifest.write(model)
    with pytest.raises(ArtefactError):
        zoo.from_pretrained(model)


# -- recipe and card -------------------------------------------------------------------------------------------------


def test_a_recipe_trains_both_spaces_and_the_card_shows_what_explanations_are_worth(tmp_path):
    from zoo.build.builder import run

    (tmp_path / "concepts.json").write_text(json.dumps(LIST))
    for name, count, seed in (("train", 60, 0), ("test", 40, 9)):
        lines = [json.dumps(row) + "\n" for row in pairs(count, seed).to_list()]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "r.yaml").write_text("""\
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
""")
    encoder = run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "run")
    facts = atomic_files.read_json(tmp_path / "run" / "model" / "config.json")["zoo"]["facts"]
    assert set(facts["ranking"]) == {"concepts", "opaque"}
    assert facts["deletion"]["explained"][0] == facts["deletion"]["random"][0]
    assert 0 <= facts["deleted_more"] <= 1
    assert encoder.card_facts()["examples"] == facts["examples"]
    text = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "plots/deletion.png" in text
    assert (tmp_path / "run" / "model" / "plots" / "deletion.png").exists()
    shown = {part["name"] for each in facts["examples"] for part in each["parts"]}
    assert shown
    assert all(name in text for name in shown)
    assert "opaque" in text
    locked = atomic_files.read_json(tmp_path / "run" / "lock.json")["data"]
    assert {"train", "concepts", "held_out"} <= set(locked)
    (tmp_path / "test.jsonl").write_text('{"anchor": "a", "positive": "b", "anchor_concepts": ["nowhere"]}\n')
    with pytest.raises(ZooError, match="held_out: row 1: anchor_concepts: concept 'nowhere' is not in the list"):
        run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "other")
    assert not (tmp_path / "other" / "metrics.jsonl").exists()


# -- measures --------------------------------------------------------------------------------------------------------


def test_rankings_agree_with_scikit_learn():
    from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

    draw = np.random.default_rng(0)
    scores, relevant = draw.random((20, 50)), draw.random((20, 50)) < 0.1
    relevant[:, 0], relevant[3] = True, False
    found = ranking.quality(scores, relevant)
    rows = [i for i in range(20) if relevant[i].any()]
    assert found.ndcg == pytest.approx(np.mean([ndcg_score(relevant[[i]], scores[[i]], k=10) for i in rows]))
    assert found.map == pytest.approx(np.mean([average_precision_score(relevant[i], scores[i]) for i in rows]))
    assert found.auc == pytest.approx(np.mean([roc_auc_score(relevant[i], scores[i]) for i in rows]))


def test_precision_is_counted_on_the_texts_that_a_concept_leads():
    listed = Concepts(("a", "b"), ("A", "B"), ((), ()))
    told = np.array([[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 4, dtype=np.float32)
    tags = [["a"]] * 3 + [["b"]] * 2 + [[]] + [["b"]] * 4
    assert faithfulness.compute_precisions(listed, told, tags) == [
        {"id": "a", "name": "A", "precision": 0.6, "texts": 5}
    ]


def test_deleting_what_two_texts_share_takes_their_score_away():
    a, b = np.zeros((1, 12)), np.zeros((1, 12))
    a[0, [0, 1, 2, 3, 4, 5, 6]] = b[0, [0, 1, 2, 3, 4, 7, 8]] = 7**-0.5
    curve, more = faithfulness.compute_deletion_curves(a, b, seed=0)
    assert curve["explained"][0] == pytest.approx(5 / 7, abs=1e-5)
    assert curve["explained"][5] == 0
    assert more == 1
