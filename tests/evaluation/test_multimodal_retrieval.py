"""Sides of texts and images, strict hits, and the answers that a card shows."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from zoo.core.errors import DataError
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation import multimodal_retrieval as retrieval
from zoo.evaluation.multimodal_retrieval import StrictRetrieval, make_id, make_side

EMPTY = {"bytes": None, "path": None}


def draw(value, size=100):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size // 2, 3), value, np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_a_side_is_a_text_its_images_or_both():
    image, path = draw(1), {"bytes": None, "path": "a.png"}
    assert make_side("a", None) == ("a", ())
    assert make_side(None, [image, EMPTY, path]) == ("", (image, path))
    assert make_side("", ()) is make_side(None, [EMPTY, {"bytes": None, "path": ""}]) is None
    assert make_side("", [{"bytes": b"", "path": None}]) == ("", ({"bytes": b"", "path": None},))


def test_ids_are_equal_for_equal_contents_only():
    sides = [("a", ()), ("a", (draw(1),)), ("a", (draw(2),)), ("b", (draw(1),)), ("a", (draw(1), draw(2)))]
    sides += [("a", ({"bytes": None, "path": name},)) for name in ("x.png", "y.png")]
    ids = [make_id(side) for side in sides]
    assert len(set(ids)) == len(ids)
    assert {len(name) for name in ids} == {24}
    assert make_id(("a", ({**draw(1), "path": "other"},))) == ids[1]


@pytest.mark.parametrize(
    ("queries", "documents", "category", "modalities"),
    [
        ([("a", ())], [("b", ())], "t2t", ["text"]),
        ([("", (draw(1),))], [("b", ())], "i2t", ["image", "text"]),
        ([("a", ()), ("a", (draw(1),))], [("", (draw(2),))], "it2i", ["image", "text"]),
        ([("", (draw(1),))], [("", (draw(2),))], "i2i", ["image"]),
    ],
)
def test_the_category_says_which_columns_each_side_has(queries, documents, category, modalities):
    named = [{f"{part}{i}": side for i, side in enumerate(sides)} for part, sides in (("q", queries), ("d", documents))]
    data = retrieval.shape_sides(*named, {"q0": {"d0": 1}}, {"q0": ["d0"]})
    assert data["category"] == category
    assert retrieval.list_modalities(data) == modalities
    split = data["default"]["test"]
    assert (split["relevant_docs"], split["top_ranked"]) == ({"q0": {"d0": 1}}, {"q0": ["d0"]})
    for part, sides in (("queries", named[0]), ("corpus", named[1])):
        assert list(split[part]["id"]) == list(sides)
        if "text" in split[part].column_names:
            assert list(split[part]["text"]) == [text for text, _ in sides.values()]
        if "image" in split[part].column_names:
            assert [image is not None for image in split[part]["image"]] == [
                bool(images) for _, images in sides.values()
            ]


def test_an_input_of_several_images_is_refused():
    with pytest.raises(DataError, match="an input of 2 images: mteb's tasks have one"):
        retrieval.shape_sides({"q": ("a", (draw(1), draw(2)))}, {"d": ("b", ())}, {}, None)


def make_table(*rows):
    return Table(Dataset.from_list(list(rows)), "", Origin("rows"))


def test_documents_that_are_known_for_a_query_are_no_candidates_of_it_unless_they_are_right():
    pairs = [{"query": "p", "document": "a"}, {"query": "q", "document": "b"}, {"query": "p", "document": "b"}]
    known = [{"query": "p", "document": "c"}, {"query": "p", "document": "b"}, {"query": "", "document": "a"}]
    corpus = [{"text": "c"}, {"text": ""}]
    tables = {"data": make_table(*pairs), "known": make_table(*known), "corpus": make_table(*corpus)}
    split = retrieval.shape_pairs(tables, "T")["default"]["test"]
    texts = {row["id"]: row["text"] for row in split["corpus"]}
    queries = {row["id"]: row["text"] for row in split["queries"]}
    candidates = {queries[query]: sorted(texts[name] for name in names) for query, names in split["top_ranked"].items()}
    assert candidates == {"p": ["a", "b"], "q": ["a", "b", "c"]}
    right = {queries[query]: sorted(texts[name] for name in names) for query, names in split["relevant_docs"].items()}
    assert right == {"p": ["a", "b"], "q": ["b"]}
    assert {grade for grades in split["relevant_docs"].values() for grade in grades.values()} == {1}
    alone = retrieval.shape_pairs({"data": tables["data"]}, "T")["default"]["test"]
    assert alone["top_ranked"] is None
    assert sorted(alone["corpus"]["text"]) == ["a", "b"]


# -- strict hits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("similarities", "is_hit"),
    [
        ({"right": 0.5, "wrong": 0.4}, True),
        ({"right": 0.5, "wrong": 0.5}, False),
        ({"right": 0.5 + 5e-7, "wrong": 0.5}, False),
        ({"right": 0.5 + 2e-6, "wrong": 0.5}, True),
        ({"right": 0.5, "also right": 0.1, "wrong": 0.4}, True),
        ({"right": 0.1, "also right": 0.5, "wrong": 0.4}, True),
        ({"right": 0.5, "wrong": 0.1, "also wrong": 0.6}, False),
        ({"right": 0.5}, True),
        ({"wrong": 0.5}, False),
        ({}, False),
    ],
)
def test_a_hit_scores_above_every_wrong_candidate_by_more_than_rounding(similarities, is_hit):
    scores = score_strictly({"q": similarities}, {"q": {"right": 1, "also right": 1, "wrong": 0}}, {"q": ["x"] * 8})
    assert scores == {"strict_hit_at_1": float(is_hit), "chance": 3 / 8, "candidates": 8.0}


def score_strictly(results, right, candidates):
    task = StrictRetrieval.__new__(StrictRetrieval)
    task.dataset = {"default": {"test": {"top_ranked": candidates}}}
    return task.task_specific_scores({}, right, results, "test", "default")


def test_strict_scores_are_means_over_queries():
    right = {"p": {"a": 1}, "q": {"a": 1, "b": 1}}
    scores = score_strictly({"p": {"a": 1.0, "b": 0.0}}, right, {"p": ["a", "b"], "q": list("abcd")})
    assert scores == {"strict_hit_at_1": 0.5, "chance": 0.5, "candidates": 3.0}
    assert StrictRetrieval.k_values == (1, 5, 10)


# -- the card's pictures -----------------------------------------------------------------------------------------------


def make_data(query_count, document_count, candidates=None):
    queries = {f"q{i}": (f"query {i}", ()) for i in range(query_count)}
    documents = {f"d{i}": (f"document {i}" * 20, (draw(9 * i),) if i % 2 else ()) for i in range(document_count)}
    return retrieval.shape_sides(queries, documents, {name: {"d1": 1} for name in queries}, candidates)


def test_six_queries_spread_over_all_are_shown_with_their_five_best_candidates():
    queries, documents = np.eye(11)[:, :8], np.eye(8) + np.linspace(0, 0.1, 8)[:, None]
    answers = retrieval.list_answers(make_data(11, 8), queries[:, :8], documents)
    assert [answer["query"] for answer in answers] == [{"text": f"query {i}"} for i in (0, 2, 4, 6, 8, 10)]
    assert {len(answer["found"]) for answer in answers} == {5}
    best = [answer["found"][0]["text"] for answer in answers[:4]]
    assert best == [(f"document {i}" * 20)[:80] for i in (0, 2, 4, 6)]
    assert [found["text"].split("document ")[1] for found in answers[0]["found"]] == ["0", "7", "6", "5", "4"]
    assert [found["right"] for found in answers[0]["found"]] == [False] * 5
    json.dumps(answers)


def test_few_queries_are_shown_once_and_only_their_own_candidates():
    data = make_data(2, 4, {"q0": ["d3", "d1"], "q1": ["d2"]})
    answers = retrieval.list_answers(data, np.ones((2, 4)), np.ones((4, 4)))
    assert [[found["text"][:10] for found in answer["found"]] for answer in answers] == [
        ["document 3", "document 1"],
        ["document 2"],
    ], "equal scores keep the order of the candidates"
    assert [found["right"] for found in answers[0]["found"]] == [False, True]
    assert len(retrieval.list_answers(make_data(1, 4), np.ones((1, 4)), np.ones((4, 4)))) == 1


def test_images_are_shown_as_small_pngs():
    (answer,) = retrieval.list_answers(make_data(1, 2, {"q0": ["d1", "d0"]}), np.ones((1, 1)), np.ones((2, 1)))
    shown, without = answer["found"]
    image = Image.open(io.BytesIO(base64.b64decode(shown["image"])))
    assert (image.format, image.size) == ("PNG", (32, 64))
    assert np.asarray(image).max() == 9
    assert "image" not in without


def test_vectors_are_found_only_if_they_are_all_that_were_computed():
    block = np.ones((3, 2))
    assert retrieval.find_vectors({"query": [block]}, "query", 3) is block
    assert retrieval.find_vectors({"query": [block]}, "query", 4) is None
    assert retrieval.find_vectors({"query": [block, block]}, "query", 3) is None
    assert retrieval.find_vectors({"query": [block]}, "document", 3) is None
