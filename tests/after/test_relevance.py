"""The step `relevance`: the order of a list stays, probabilities mean something, and foreign queries are rejected."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from zoo import after
from zoo.after import saved
from zoo.after.material import Material
from zoo.after.relevance import cut_off, mapping, order
from zoo.after.relevance.familiarity import Directions, Familiarity
from zoo.after.relevance.score_lists import ScoreLists
from zoo.after.relevance.spec import Spec
from zoo.after.relevance.step import Step
from zoo.core.errors import ArtefactError, ZooError
from zoo.metrics.classification import compute_auroc
from zoo.ops import exact_search

DIM, TOPICS, TOP = 24, 30, 20


def normalise(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_corpus(seed=0, queries=400):
    """Documents and queries of topics in a part of the space. Half of the topics are crowded, and half are wide.

    A wrong document of a crowded topic's query scores higher than a right one of a wide topic's query.
    """
    rng = np.random.default_rng(seed)
    is_used = np.arange(DIM) < 12
    centres = rng.standard_normal((TOPICS, DIM)) * is_used
    crowded = np.arange(TOPICS) < TOPICS // 2
    centres[crowded] = centres[0] + 0.35 * rng.standard_normal((crowded.sum(), DIM)) * is_used
    spreads = np.where(crowded, 0.2, 0.8)

    def draw(count):
        topics = rng.integers(TOPICS, size=count)
        noise = rng.standard_normal((count, DIM)) * np.where(is_used, 1, 0.1)
        return normalise(centres[topics] + spreads[topics, None] * noise), topics

    documents, document_topics = draw(900)
    vectors, query_topics = draw(queries)
    answers = np.argwhere(query_topics[:, None] == document_topics)
    foreign = normalise(rng.standard_normal((200, DIM)))
    return documents, vectors, answers, foreign


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


@pytest.fixture(scope="module")
def fitted(corpus):
    documents, queries, answers, foreign = corpus
    is_fit = answers[:, 0] < 300
    spec = Spec(step="relevance", top=TOP)
    return Step.fit(spec, Material(documents, queries[:300], answers[is_fit], foreign[:100], seed=1))


@pytest.fixture(scope="module")
def tested(corpus):
    documents, queries, answers, _ = corpus
    scores, ids = exact_search.search(queries[300:], documents, TOP)
    keys = answers[:, 0] * len(documents) + answers[:, 1]
    return queries[300:], scores, np.isin(np.arange(300, 400)[:, None] * len(documents) + ids, keys)


# -- the order -----------------------------------------------------------------------------------------------------------


def assert_same_order(scores, mapped):
    assert mapped.dtype == np.float32
    finite = np.where(np.isfinite(scores), scores, -1e30)
    first, second = (np.sign(np.diff(values.astype(np.float64), axis=1)) for values in (finite, mapped))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s,
        lambda s: s - 1,  # all scores at or below 0
        lambda s: np.repeat(s[:, ::4], 4, axis=1),  # ties
        lambda s: s[:, :1] - np.arange(s.shape[1], dtype=np.float32) * np.float32(6e-8),  # neighbours in float32
        lambda s: 1e4 * s,  # saturated
        lambda s: -1e4 + 0 * s,
        lambda s: s[:, :3],
        lambda s: s[:, :1],
        lambda s: np.concatenate([s[:, :5], np.full((len(s), 4), -np.inf, np.float32)], axis=1),
        lambda s: np.concatenate([s, s - 2, s - 4], axis=1),  # longer than `top`
    ],
)
def test_the_order_and_the_ties_of_every_list_stay(fitted, tested, change):
    queries, scores, _ = tested
    changed = np.sort(change(scores).astype(np.float32), axis=1)[:, ::-1]
    assert_same_order(changed, fitted.map_scores(queries, changed))


def test_sorting_by_probability_is_sorting_by_score(fitted, tested):
    queries, scores, _ = tested
    mapped = fitted.map_scores(queries, scores)
    np.testing.assert_array_equal(np.argsort(-mapped, kind="stable"), np.argsort(-scores, kind="stable"))
    assert ((mapped > 0) & (mapped < 1)).all()


def test_rounding_keeps_an_order_that_plain_rounding_loses():
    scores = np.linspace(1, 0, 50, dtype=np.float32)[None]
    certain = 1 - np.linspace(0, 1e-9, 50)[None]
    assert len(np.unique(certain.astype(np.float32))) == 1
    rounded = order.round_in_order(certain, scores)
    assert_same_order(scores, rounded)
    assert np.abs(rounded - certain).max() < 1e-5


def test_equal_scores_stay_equal_if_arithmetic_differs_in_the_last_bit():
    scores = np.array([[0.9, 0.5, 0.5, 0.1]], np.float32)
    probabilities = np.array([[0.9, 0.5, np.nextafter(np.float32(0.5), 1), 0.1]])
    assert_same_order(scores, order.round_in_order(probabilities, scores))


def test_a_row_does_not_depend_on_the_other_rows(fitted, tested):
    queries, scores, _ = tested
    together = fitted.map_scores(queries, scores)
    alone = np.concatenate([fitted.map_scores(queries[i : i + 1], scores[i : i + 1]) for i in range(len(queries))])
    np.testing.assert_allclose(alone, together, rtol=1e-4)


# -- the three uses ------------------------------------------------------------------------------------------------------


def test_probabilities_filter_better_than_scores(fitted, tested):
    queries, scores, labels = tested
    mapped = fitted.map_scores(queries, scores)
    raw, better = (average_precision_score(labels.ravel(), values.ravel()) for values in (scores, mapped))
    assert better > raw + 0.02


def test_probabilities_are_calibrated_on_new_queries(fitted, tested):
    queries, scores, labels = tested
    assert cut_off.compute_calibration_error(fitted.map_scores(queries, scores), labels) < 0.06


def test_the_cut_off_holds_its_precision_on_new_queries(fitted, tested):
    queries, scores, labels = tested
    figures = cut_off.measure_cut(fitted.map_scores(queries, scores), labels, fitted.threshold)
    assert abs(figures["precision"] - 0.9) < 0.05
    assert f"{fitted.threshold:.3g}" in fitted.describe_threshold()


@pytest.mark.parametrize("has_foreign", [True, False])
def test_foreign_queries_are_rejected_by_the_same_probability(corpus, fitted, tested, has_foreign):
    documents, queries, answers, foreign = corpus
    step = fitted
    if not has_foreign:
        lines = []
        material = Material(documents, queries[:300], answers[answers[:, 0] < 300], seed=1, say=lines.append)
        step = Step.fit(fitted.spec, material)
        assert any("no foreign queries" in line for line in lines)
        assert "foreign_auroc" not in step.card_facts()
    own = step.map_scores(tested[0], tested[1])
    scores, _ = exact_search.search(foreign[100:], documents, TOP)
    others = step.map_scores(foreign[100:], scores)
    assert compute_auroc(own[:, 0], others[:, 0]) > 0.97
    gap = [values[:, 0] - values[:, 1:].mean(1) for values in (tested[1], scores)]
    assert compute_auroc(*gap) < 0.9  # the trap: what tells relevant rows apart says nothing about foreign queries


def test_the_figures_of_the_card_are_those_of_held_out_queries(fitted, tested):
    queries, scores, labels = tested
    facts = fitted.card_facts()
    new = average_precision_score(labels.ravel(), fitted.map_scores(queries, scores).ravel())
    assert abs(facts["average_precision"] - new) < 0.06
    assert facts["foreign_auroc"] > 0.97
    assert facts["bytes"] < 250_000
    json.dumps(facts, allow_nan=False)


def test_a_target_that_cannot_be_reached_is_said(corpus):
    documents, queries, answers, _ = corpus
    rng = np.random.default_rng(0)
    wrong = np.stack([answers[:, 0], rng.permutation(answers[:, 1])], axis=1)
    step = Step.fit(Spec(step="relevance", top=TOP, target={"precision": 0.99}), Material(documents, queries, wrong))
    assert "was not reached" in step.describe_threshold()


# -- the fit and its state -----------------------------------------------------------------------------------------------


def save(step):
    """Tensors and state as a folder gives them back."""
    return {name: array.copy() for name, array in step.tensors().items()}, json.loads(json.dumps(step.state()))


def test_a_saved_step_gives_the_same_probabilities(fitted, tested):
    opened = Step.from_saved(fitted.spec, *save(fitted))
    np.testing.assert_array_equal(opened.map_scores(*tested[:2]), fitted.map_scores(*tested[:2]))
    assert opened.threshold == fitted.threshold
    assert opened.describe_threshold() == fitted.describe_threshold()
    assert opened.state() == fitted.state()


def test_the_folder_of_a_step_opens_as_it_was(fitted, tested, tmp_path):
    opened = saved.open_step(saved.save_step(fitted, tmp_path / "step"))
    np.testing.assert_array_equal(opened.map_scores(*tested[:2]), fitted.map_scores(*tested[:2]))
    assert (tmp_path / "step" / "tensors.safetensors").stat().st_size < 250_000


def test_a_fit_is_the_same_for_the_same_seed_and_leaves_random_numbers_alone(corpus, fitted):
    import torch

    documents, queries, answers, foreign = corpus
    torch.manual_seed(5)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5))
    material = Material(documents, queries[:300], answers[answers[:, 0] < 300], foreign[:100], seed=1)
    again = Step.fit(fitted.spec, material)
    assert torch.equal(torch.rand(3), expected)
    for name, array in fitted.tensors().items():
        np.testing.assert_array_equal(array, again.tensors()[name])
    assert again.state() == fitted.state()
    other = Step.fit(fitted.spec, dataclasses.replace(material, seed=2))
    assert not np.array_equal(other.tensors()["lines.outer"], fitted.tensors()["lines.outer"])


def test_the_state_of_wide_vectors_is_small():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 1024)).astype(np.float32)
    parts = Familiarity.fit(vectors[:1500], vectors)
    arrays = {**parts.queries.tensors("q"), **parts.documents.tensors("d")}
    assert sum(array.nbytes for array in arrays.values()) < 150_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, state: tensors.pop("gate"), "gate"),
        (lambda tensors, state: tensors.update(more=np.zeros(2)), "extra tensor more"),
        (lambda tensors, state: tensors.update({"lines.outer": tensors["lines.outer"][:, :-1]}), "does not fit"),
        (lambda tensors, state: tensors.update({"gate": tensors["gate"][:3]}), "does not fit"),
        (lambda tensors, state: tensors["drops"].fill(np.nan), "NaN"),
        (lambda tensors, state: state["map"].update(baseline="other"), "baseline|does not fit"),
        (lambda tensors, state: state["map"].update(calibration=[-1, 0]), "turn the order round"),
        (lambda tensors, state: state.pop("threshold"), "threshold"),
        (lambda tensors, state: state.update(facts={}), "does not fit"),
    ],
)
def test_a_damaged_state_is_refused(fitted, change, message):
    tensors, state = save(fitted)
    change(tensors, state)
    with pytest.raises(ArtefactError, match=message):
        Step.from_saved(fitted.spec, tensors, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": None}, "needs queries and their answers"),
        ({"answers": None}, "needs queries and their answers"),
        ({"answers": np.array([[0, 5000]])}, "beyond 400 queries and 900 documents"),
        ({"answers": np.array([[0, 1], [1, 1]])}, "at least 50 different queries with a known answer, and there are 2"),
        (
            {"queries": np.ones((400, DIM), np.float32)},
            "at least 50 different queries with a known answer, and there are 1",
        ),
        ({"queries": np.random.default_rng(0).random((400, 7), np.float32)}, "one encoder"),
        ({"queries": np.full((400, DIM), np.nan, np.float32)}, "not finite"),
        ({"foreign": np.ones((3, DIM), np.float32)}, "at least 50 different foreign queries, and there are 1"),
        ({"answers": np.argwhere(np.ones((400, 900), bool))}, "fewer than 20 wrong"),
    ],
)
def test_material_that_does_not_fit_is_refused(corpus, change, message):
    documents, queries, answers, _ = corpus
    material = dataclasses.replace(Material(documents, queries, answers), **change)
    with pytest.raises(ZooError, match=message):
        Step.fit(Spec(step="relevance", top=TOP), material)


@pytest.mark.parametrize(
    ("queries", "scores", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"not \(n, 24\)"),
        (np.ones((2, DIM)), np.ones((3, 4)), "need"),
        (np.ones((1, DIM)), np.array([[0.1, 0.2]]), "query 0 do not descend"),
        (np.ones((1, DIM)), np.array([[0.1, np.nan]]), "NaN"),
        (np.full((1, DIM), np.nan), np.array([[0.2, 0.1]]), "row 0 is not finite"),
    ],
)
def test_scores_that_do_not_fit_are_refused(fitted, queries, scores, message):
    with pytest.raises(ZooError, match=message):
        fitted.map_scores(queries, scores)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty_lists_have_no_probabilities(fitted, shape):
    assert fitted.map_scores(np.ones((shape[0], DIM), np.float32), np.zeros(shape, np.float32)).shape == shape


def test_missing_rows_have_probability_zero(fitted, tested):
    queries, scores, _ = tested
    padded = np.concatenate([scores[:, :4], np.full((len(scores), 3), -np.inf, np.float32)], axis=1)
    mapped = fitted.map_scores(queries, padded)
    assert (mapped[:, 4:] == 0).all()
    np.testing.assert_allclose(mapped[:, :4], fitted.map_scores(queries, scores[:, :4]), rtol=1e-5)
    assert (fitted.map_scores(queries, np.full((len(queries), 3), -np.inf, np.float32)) == 0).all()


def test_a_model_with_the_step_is_saved_and_its_index_cuts_the_list(tmp_path):
    import tiny

    import zoo

    texts = [f"{first} {second}" for first in tiny.WORDS[:12] for second in tiny.WORDS[:12] if first != second]
    encoder = zoo.from_pretrained(tiny.backbone(tmp_path / "backbone"))
    vectors = encoder.prepare_vectors(encoder.encode_document(texts))
    answers = np.argwhere(np.array([[a.split()[0] == b.split()[0] for b in texts] for a in texts]))
    step = Step.fit(Spec(step="relevance", top=20, target={"precision": 0.5}), Material(vectors, vectors, answers))
    encoder.attach_steps([step])
    opened = zoo.from_pretrained(encoder.save(tmp_path / "model"))
    assert opened.steps[0].describe_threshold() == step.describe_threshold()

    index = zoo.Index.build(opened, [{"text": text} for text in texts], tmp_path / "index")
    (whole,) = index.search([texts[0]], 20)
    probabilities = [hit.probability for hit in whole]
    assert probabilities == sorted(probabilities, reverse=True)
    (cut,) = index.search([texts[0]], 20, relevant=True)
    assert [hit.id for hit in cut] == [hit.id for hit in whole if hit.probability >= step.threshold]
    assert len(cut) < len(whole)


# -- the parts -----------------------------------------------------------------------------------------------------------


def test_a_short_list_goes_on_as_the_mean_list_does():
    lists = ScoreLists(np.array([0.0, 0.1, 0.2, 0.4]), 0.1)
    np.testing.assert_allclose(lists.complete(np.array([[0.9, 0.8]])), [[0.9, 0.8, 0.7, 0.5]])
    np.testing.assert_allclose(lists.complete(np.array([[0.9, 0.7]])), [[0.9, 0.7, 0.5, 0.1]])
    np.testing.assert_allclose(lists.complete(np.array([[0.9]])), [[0.9, 0.8, 0.7, 0.5]])
    np.testing.assert_allclose(lists.complete(np.array([[0.9, 0.8, 0.7, 0.6, 0.5]])), [[0.9, 0.8, 0.7, 0.6]])


def test_scores_of_random_documents_are_estimated():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((40, 40)) / np.arange(1, 41)[:, None]
    documents = (rng.standard_normal((4000, 40)) @ mixing + 0.3).astype(np.float32)
    queries = rng.standard_normal((50, 40)).astype(np.float32)
    mean, deviation = Familiarity.fit(queries, documents).score_random_documents(queries)
    exact = queries @ documents.T
    np.testing.assert_allclose(mean, exact.mean(1), atol=0.01)
    np.testing.assert_allclose(deviation, exact.std(1), rtol=0.02)


def test_directions_of_few_vectors_are_few():
    vectors = np.random.default_rng(0).standard_normal((80, 30)).astype(np.float32)
    directions = Directions.fit(vectors, 90_000)
    assert directions.axes.shape == (10, 30)
    coordinates, missed = directions.project(vectors)
    centred = ((vectors - vectors.mean(0)) ** 2).sum(1)
    np.testing.assert_allclose((coordinates**2).sum(1) + missed, centred, rtol=1e-3)


def test_a_product_of_probabilities_is_joined_in_log_odds():
    rows, queries = np.array([[2.0, -1.0, 0.0]]), np.array([0.5])
    expected = mapping.compute_sigmoid(rows) * mapping.compute_sigmoid(queries)[:, None]
    np.testing.assert_allclose(mapping.compute_sigmoid(mapping.join(rows, queries)), expected)
    assert np.isfinite(mapping.join(np.array([[900.0, -900.0]]), np.array([-900.0]))).all()


def test_the_cut_off_is_the_lowest_that_reaches_the_precision():
    scores = np.linspace(1, 0, 100)[None]
    labels = np.array([True] * 40 + [False] * 10 + [True] * 10 + [False] * 40)[None]
    chosen = cut_off.choose_cut_off(scores, labels, 0.8)
    kept = scores >= chosen.threshold
    assert chosen.is_reached
    assert labels[kept].mean() >= 0.8
    assert kept.sum() == 62  # 50 of 62 are right, 50 of 63 are too few
    assert not cut_off.choose_cut_off(scores, ~labels, 0.9).is_reached


def test_equal_scores_are_kept_or_cut_together():
    labels = np.array([[True] * 25 + [False] * 25])
    chosen = cut_off.choose_cut_off(np.full((1, 50), 0.5), labels, 0.9)
    assert (chosen.threshold, chosen.is_reached) == (0.5, False)


def test_figures_of_a_cut():
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.0], [0.1, 0.1, 0.1]])
    labels = np.array([[True, False, True], [True, False, False], [False, False, False]])
    figures = cut_off.measure_cut(scores, labels, 0.5)
    assert figures == {"precision": 0.5, "recall": 1 / 3, "f1_per_query": 0.5, "empty": 2 / 3}


def test_the_calibration_error_of_known_probabilities():
    probabilities = np.array([[0.95] * 4 + [0.05] * 4])
    labels = np.array([[True, True, True, False] + [False] * 4])
    assert cut_off.compute_calibration_error(probabilities, labels) == pytest.approx((0.2 * 4 + 0.05 * 4) / 8)


def test_the_step_is_in_the_registry_and_opens_without_torch():
    import subprocess
    import sys

    assert after.load_step("relevance") is Step
    code = "import sys, zoo.after.relevance.step; assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
