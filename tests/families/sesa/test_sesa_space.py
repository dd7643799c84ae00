"""The mathematics of SESA without any training: hierarchy, objectives, concept space, tags, measures, subwords."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.families.sesa import faithfulness, hierarchy, objectives, plots, tag_counts
from zoo.families.sesa.concept_space import ConceptSpace, ConceptTower
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.tower_modules import HALF_WEIGHT_FREQUENCY, RecurrentTower
from zoo.metrics import ranking
from zoo.text.subwords import UNKNOWN, Subwords

normalize = torch.nn.functional.normalize


def build_concepts(parents: tuple[tuple[int, ...], ...]) -> Concepts:
    names = tuple(map(str, range(len(parents))))
    return Concepts(names, names, parents)


# -- hierarchy -------------------------------------------------------------------------------------------------------


def test_parents_are_raised_to_their_highest_descendant_and_never_dropped_before_a_child():
    rng = np.random.default_rng(0)
    parents = tuple(tuple(int(p) for p in rng.choice(i, min(i, 2), replace=False)) if i > 3 else () for i in range(40))
    concepts = build_concepts(parents)
    values = torch.from_numpy(rng.random((30, 40), dtype=np.float32))
    raised = hierarchy.raise_parents(values, hierarchy.build_edges(parents, concepts.levels))
    descendants = [[c for c in range(40) if p in concepts.ancestors[c]] for p in range(40)]
    expected = torch.stack([values[:, [p, *descendants[p]]].amax(1) for p in range(40)], dim=1)
    torch.testing.assert_close(raised, expected)
    for count in (1, 5, 17, 40):
        largest = hierarchy.keep_largest(raised, count, torch.tensor(concepts.levels))
        assert ((largest > 0).sum(1) <= count).all()
        for child, child_parents in enumerate(parents):
            assert all((largest[:, parent] >= largest[:, child]).all() for parent in child_parents)
        np.testing.assert_allclose(largest.sum(1), raised.topk(count, dim=1).values.sum(1), rtol=1e-4)


def test_pmi_is_the_logarithm_of_a_ratio_of_probabilities():
    logits, log_prior = torch.randn(4, 5), torch.tensor([0.2, 0.8, 0.5, 0.3, 0.2]).log()
    level_concepts = [torch.tensor([0, 1]), torch.tensor([2, 3, 4])]
    information = hierarchy.compute_pmi(logits, log_prior, level_concepts)
    for columns in level_concepts:
        probabilities = torch.softmax(logits[:, columns] + log_prior[columns], dim=1)
        torch.testing.assert_close(information[:, columns], (probabilities / log_prior[columns].exp()).log())


def test_levels_are_reconciled_as_computed_by_hand():
    """The root r has the children x and y, x has the leaves a and b, and z stands alone."""
    parents = ((), (0,), (0,), (1,), (1,), ())
    edges = hierarchy.build_edges(parents, build_concepts(parents).levels)
    probabilities = torch.tensor([[0.7, 0.6, 0.4, 0.5, 0.5, 0.3], [0.9, 0.2, 0.8, 0.1, 0.9, 0.1]]).double()
    r, x, y, a, b, z = probabilities.T
    root = (r * (a + b + y)).sqrt()
    inner, leaf = (x * (a + b)).sqrt() * root.sqrt(), y * root.sqrt()
    expected = torch.stack([root, inner, leaf, a * inner.sqrt(), b * inner.sqrt(), z], dim=1)
    torch.testing.assert_close(hierarchy.reconcile_levels(probabilities.log(), edges).exp(), expected)


def test_concepts_without_parents_keep_their_probabilities():
    log_probabilities = torch.randn(2, 6).log_softmax(1)
    edges = hierarchy.build_edges(((),) * 6, (0,) * 6)
    torch.testing.assert_close(hierarchy.reconcile_levels(log_probabilities, edges), log_probabilities)


def test_a_child_of_several_parents_gives_each_an_equal_share():
    parents = ((), (), (0, 1), (2, 0))
    edges = hierarchy.build_edges(parents, build_concepts(parents).levels)
    probabilities = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).double()
    roots = torch.tensor([0.5 * 0.75, 0.5 * 0.25]).double().sqrt()
    middle = (1.0 * 0.5) ** 0.5 * roots.max().sqrt()
    expected = torch.stack([*roots, middle, torch.maximum(middle, roots[0]).sqrt()])
    torch.testing.assert_close(hierarchy.reconcile_levels(probabilities.log(), edges).exp()[0], expected)


# -- objectives ------------------------------------------------------------------------------------------------------


def test_rows_that_share_a_text_are_not_negatives_of_each_other():
    queries, documents = normalize(torch.randn(4, 6), dim=1), normalize(torch.randn(4, 6), dim=1)
    text_keys = torch.tensor([[1, 1, 2, 3], [1, 2, 3, 4]])
    logits = (queries @ documents.T * 9).numpy()
    expected = 0.0
    for i in range(4):
        for row in (logits, logits.T):
            candidates = [j for j in range(4) if j == i or not (i in (0, 1) and j in (0, 1))]
            expected -= row[i, i] - np.log(np.exp(row[i, candidates]).sum())
    loss = objectives.compute_ranking_loss(queries, documents, text_keys, temperature=1 / 9)
    assert loss.item() == pytest.approx(expected / 8, rel=1e-5)


def test_a_row_without_tags_gets_no_gradient():
    log_probabilities = torch.randn(3, 4).log_softmax(1).requires_grad_()
    tags = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]).bool()
    level_concepts = [torch.arange(4)]
    objectives.compute_tagging_loss(log_probabilities, tags, level_concepts).backward()
    assert log_probabilities.grad[1].abs().sum() == 0
    assert (log_probabilities.grad[[0, 2]].abs().sum(1) > 0).all()
    assert objectives.compute_tagging_loss(log_probabilities, torch.zeros_like(tags), level_concepts).item() == 0


# -- concept space ---------------------------------------------------------------------------------------------------


def test_components_start_as_similar_as_vectors_and_concepts_point_at_their_examples():
    concepts = build_concepts(((),) * 60)
    generator = torch.Generator().manual_seed(0)
    names, centres = (normalize(torch.randn(60, 16, generator=generator) + 0.7, dim=1) for _ in range(2))
    labels = torch.arange(240) % 60
    texts, new_texts = (
        normalize(centres[labels] + 0.1 * torch.randn(240, 16, generator=generator), dim=1) for _ in range(2)
    )
    space = ConceptSpace(concepts, 16, opaque=True)
    text_accuracy, name_accuracy = {}, {}
    for has_tags in (False, True):
        space.initialise_weights(names, texts, [[int(label)] if has_tags else [] for label in labels])
        logits, centred = space(texts).detach(), texts - texts.mean(0)
        similarities = normalize(logits) @ normalize(logits).T
        torch.testing.assert_close(similarities, normalize(centred) @ normalize(centred).T, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(logits.mean(0), torch.zeros(60), atol=0.2, rtol=0)
        name_scores = normalize(space.weight.detach(), dim=1) @ normalize(names - names.mean(0), dim=1).T
        text_accuracy[has_tags] = (space(new_texts).argmax(1) == labels).float().mean()
        name_accuracy[has_tags] = (name_scores.argmax(1) == torch.arange(60)).float().mean()
    assert name_accuracy[False] > 0.8
    assert text_accuracy[True] > text_accuracy[False] + 0.3


def test_tensors_have_the_names_of_published_files():
    space = ConceptSpace(build_concepts(((), (0,))), 4)
    published = {"weight", "bias", "scale", "threshold", "stretch", "sharpness", "habit", "prior"}
    assert space.state_dict().keys() == published
    assert copy.deepcopy(space).state_dict().keys() == published
    whole = torch.nn.ModuleDict({"space": space})
    tensors = {
        name: torch.full_like(tensor, number) for number, (name, tensor) in enumerate(whole.state_dict().items())
    }
    whole.load_state_dict(tensors)
    assert space.log_gain.eq(tensors["space.stretch"]).all()
    assert space.tag_bias.eq(tensors["space.habit"]).all()
    assert space.log_prior.eq(tensors["space.prior"]).all()
    with pytest.raises(RuntimeError, match="log_gain"):
        whole.load_state_dict({name: tensor for name, tensor in tensors.items() if name != "space.stretch"})


def test_the_space_stays_in_float32_if_the_tower_is_converted():
    space = ConceptSpace(build_concepts(((), (0,))), 4)
    tower = ConceptTower(torch.nn.Linear(3, 4), space, 2, torch.ones(2)).to(torch.bfloat16)
    assert tower.tower.weight.dtype == torch.bfloat16
    assert space.weight.dtype == torch.float32
    assert tower(torch.ones(5, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_prior_is_a_distribution_over_each_level():
    space = ConceptSpace(build_concepts(((), (), (0,), (1,))), 4)
    space.set_prior(torch.tensor([3.0, 1.0, 2.0, 2.0]))
    torch.testing.assert_close(space.log_prior.exp(), torch.tensor([0.75, 0.25, 0.5, 0.5]))


# -- list of concepts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
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
        ([{"id": str(i), "parent": ["x"]} for i in range(8)], "and 3 more"),
    ],
)
def test_a_list_that_is_not_a_hierarchy_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        Concepts.from_rows(rows)


def test_parent_lists_may_repeat_rows_but_not_contradict_them():
    parent_list = [{"id": "x", "name": "X"}, {"id": "x", "name": "X"}]
    assert Concepts.from_rows([{"id": "a", "parent": ["x"]}], [parent_list]).ids == ("a", "x")
    with pytest.raises(DataError, match="'x' appears twice"):
        Concepts.from_rows([{"id": "a", "parent": ["x"]}], [[*parent_list, {"id": "x", "name": "Y"}]])


def test_a_deep_hierarchy_needs_no_recursion():
    depth = 5000
    concepts = Concepts.from_rows(
        [{"id": str(i), "parent": [str(i + 1)] if i + 1 < depth else []} for i in range(depth)]
    )
    assert concepts.levels == tuple(reversed(range(depth)))


def test_a_concept_is_found_by_its_id_or_by_a_name_that_is_unique():
    concepts = Concepts(("a", "b", "c"), ("b", "same", "same"), ((), (), ()))
    assert concepts.find_row("b") == 1
    with pytest.raises(ZooError, match="several concepts are called 'same': give the id instead, b or c"):
        concepts.find_row("same")
    with pytest.raises(ZooError, match="there is no concept 'sane'; did you mean same"):
        concepts.find_row("sane")


def test_a_tag_counts_for_its_ancestors_once_per_row():
    concepts = build_concepts(((), (0,), (0,)))
    rows = Dataset.from_list(
        [
            {"anchor": "one text", "anchor_concepts": ["1", "2"], "positive_concepts": []},
            {"anchor": "one text", "anchor_concepts": ["1"], "positive_concepts": ["0"]},
        ]
    )
    assert tag_counts.count_tags(concepts, rows).tolist() == [3, 2, 1]
    with pytest.raises(DataError, match="held_out: row 2: anchor_concepts: concept '1' is not in the list"):
        tag_counts.count_tags(Concepts(("0", "2"), ("0", "2"), ((), ())), rows.select([1, 1]), "held_out")


# -- measures --------------------------------------------------------------------------------------------------------


def test_rankings_agree_with_scikit_learn():
    from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

    rng = np.random.default_rng(0)
    scores, relevant = rng.random((20, 50)), rng.random((20, 50)) < 0.1
    relevant[:, 0], relevant[3] = True, False
    quality = ranking.compute_ranking_quality(scores, relevant)
    rows = [i for i in range(20) if relevant[i].any()]
    assert quality.ndcg == pytest.approx(np.mean([ndcg_score(relevant[[i]], scores[[i]], k=10) for i in rows]))
    assert quality.map == pytest.approx(np.mean([average_precision_score(relevant[i], scores[i]) for i in rows]))
    assert quality.auc == pytest.approx(np.mean([roc_auc_score(relevant[i], scores[i]) for i in rows]))


def test_precision_is_the_share_of_tagged_texts_among_those_that_a_concept_leads():
    concepts = Concepts(("a", "b"), ("A", "B"), ((), ()))
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 4, dtype=np.float32)
    tags = [["a"]] * 3 + [["b"]] * 2 + [[]] + [["b"]] * 4
    precisions = faithfulness.compute_precisions(concepts, probabilities, tags)
    assert precisions == [{"id": "a", "name": "A", "precision": 0.6, "texts": 5}]


def test_deleting_all_shared_concepts_removes_the_score():
    a, b = np.zeros((1, 12)), np.zeros((1, 12))
    a[0, [0, 1, 2, 3, 4, 5, 6]] = b[0, [0, 1, 2, 3, 4, 7, 8]] = 7**-0.5
    curves, share = faithfulness.compute_deletion_curves(a, b, seed=0)
    assert curves["explained"][0] == pytest.approx(5 / 7, abs=1e-5)
    assert curves["explained"][5] == 0
    assert share == 1


@pytest.mark.parametrize("explained", [None, [], "many", [0.5, float("nan")], [0.5, "x"]])
def test_a_card_without_valid_curves_has_no_picture(explained):
    curves = {"random": [0.5, 0.4], "explained": explained}
    assert plots.draw_deletion_curves(SimpleNamespace(facts={"deletion": curves})) is None
    assert plots.draw_deletion_curves(SimpleNamespace(facts={})) is None


# -- subwords --------------------------------------------------------------------------------------------------------


def test_subwords_depend_on_the_texts_alone():
    texts = ["the chronic cough", "a chronic lung"] * 3
    subwords = Subwords.learn(texts, 80)
    assert (subwords.pieces, subwords.merges) == (Subwords.learn(texts, 80).pieces, Subwords.learn(texts, 80).merges)
    assert subwords.encode(["Chrónic"], 9) == subwords.encode(["chronic"], 9)
    assert subwords.encode(["", "the chronic cough"], 2)[0] == [UNKNOWN]
    assert len(subwords.encode(["the chronic cough"], 2)[0]) == 2
    with pytest.raises(ZooError, match="no character to learn subwords from"):
        Subwords.learn(["", " "], 80)


def test_subwords_are_read_as_they_were_written(tmp_path):
    subwords = Subwords.learn(["the chronic cough"], 80)
    subwords.save(tmp_path / "pieces.json")
    loaded = Subwords.load(tmp_path / "pieces.json")
    assert (loaded.pieces, loaded.merges) == (subwords.pieces, subwords.merges)
    (tmp_path / "pieces.json").write_text('{"format": 1, "pieces": ["[PAD]", "[UNK]", "a", "a"], "merges": []}')
    with pytest.raises(ArtefactError, match="pieces must be distinct"):
        Subwords.load(tmp_path / "pieces.json")


def test_a_subword_of_the_reference_frequency_has_half_the_weight():
    subwords = Subwords.learn(["ab"], 80)
    tower = RecurrentTower(subwords, "gru", 4, 4, None, 0.0)
    rare, frequent = (subwords.encode([text], 9)[0][0] for text in ("b", "ab"))
    tower.initialise_rarity([*["ab"] * round(1 / HALF_WEIGHT_FREQUENCY - 1), "b"])
    weights = tower.module.rarity.weight.exp()
    assert weights[rare].item() == pytest.approx(0.5, abs=1e-4)
    assert weights[frequent].item() < 0.01
