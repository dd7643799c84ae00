"""Which shape a table has, which columns play which role, and what is said to be unsure."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapes_of_data
import tiny

from zoo.core.errors import DataError
from zoo.starter.columns import NAMES, describe_column
from zoo.starter.look import look
from zoo.starter.shapes import find_shape

S = tiny.SENTENCES
COUNT = 24


def make(folder: Path, **columns):
    """Write a table whose columns are functions of the row number, and look at it."""
    rows = [{name: cell(number) for name, cell in columns.items()} for number in range(COUNT)]
    return look(shapes_of_data.write_csv(folder / "table.csv", rows))


def first(number):
    return S[number]


def second(number):
    return S[number + COUNT]


def third(number):
    return S[number + 2 * COUNT]


@pytest.mark.parametrize(
    ("columns", "goal", "shape", "roles", "doubts"),
    [
        ({"premise": first, "hypothesis": second}, None, "pairs", {"anchor": "premise", "positive": "hypothesis"}, []),
        ({"a": first, "b": second}, None, "pairs", {"anchor": "a", "positive": "b"}, ["a is read as the query"]),
        ({"Question": first, "x": second}, None, "pairs", {"anchor": "Question", "positive": "x"}, ["x as its answer"]),
        (
            {"x": first, "answer": second},
            None,
            "pairs",
            {"anchor": "x", "positive": "answer"},
            ["x is read as the query"],
        ),
        (
            {"query": first, "positive": second, "negative_1": third, "negative_2": first},
            None,
            "triplets",
            {"anchor": "query", "positive": "positive", "negative": "negative_1", "negative_1": "negative_2"},
            [],
        ),
        (
            {"text1": first, "text2": second, "label": lambda n: n % 2},
            None,
            "scored-pairs",
            {"sentence1": "text1", "sentence2": "text2", "score": "label"},
            [],
        ),
        (
            {"a": first, "b": second, "m": lambda n: n / 10},
            "sts",
            "scored-pairs",
            {"sentence1": "a", "sentence2": "b", "score": "m"},
            ["a is read as the query", "m is read as the score"],
        ),
        ({"id": lambda n: n, "a": first, "b": second}, None, "pairs", {"anchor": "a", "positive": "b"}, ["a is read"]),
        (
            {"title": first, "body": second, "label": lambda n: n % 3},
            None,
            "labels",
            {"text": "body", "label": "label"},
            ["body is read as the text", "numbers of label are read as classes"],
        ),
        (
            {"title": first, "body": second, "label": lambda n: n % 3},
            "retrieval",
            "pairs",
            {"anchor": "title", "positive": "body"},
            ["title is read as the query", "above 1 are read"],
        ),
        (
            {"x": first, "kind": lambda n: "abc"[n % 3]},
            None,
            "labels",
            {"text": "x", "label": "kind"},
            ["by its contents"],
        ),
        ({"text": first, "nr": lambda n: n}, None, "texts", {"text": "text"}, []),
        (
            {"text": first, "label": lambda n: n % 2, "label_text": lambda n: "ab"[n % 2]},
            None,
            "labels",
            {"text": "text", "label": "label_text"},
            [],
        ),
        ({"intent": lambda n: f"i{n % 4}", "query": first}, None, "labels", {"text": "query", "label": "intent"}, []),
        ({"text": first, "label": lambda n: "ab"[n % 2]}, "topics", "topics", {"text": "text", "label": "label"}, []),
        ({"embedding": lambda n: [n, 1.5]}, None, "vectors", {"vector": "embedding"}, []),
    ],
)
def test_the_roles_follow_from_names_and_contents(tmp_path, columns, goal, shape, roles, doubts):
    finding = find_shape(make(tmp_path, **columns), goal)
    assert (finding.shape, finding.columns) == (shape, roles)
    assert len(finding.doubts) == len(doubts), finding.doubts
    for part, doubt in zip(doubts, finding.doubts, strict=True):
        assert part in doubt


def test_pairs_of_a_class_of_their_own_are_kept_alone(tmp_path):
    labels = ("entailment", "neutral", "contradiction")
    table = make(tmp_path, premise=first, hypothesis=second, label=lambda n: labels[n % 3])
    finding = find_shape(table, None)
    assert (finding.shape, finding.where) == ("pairs", {"label": "entailment"})
    assert "only pairs whose label is entailment" in finding.doubts[0]


def test_binary_scores_become_pairs_for_retrieval(tmp_path):
    table = make(tmp_path, query=first, document=second, relevance=lambda n: n % 2)
    assert find_shape(table, "retrieval").where == {"relevance": 1}
    assert find_shape(table, None).shape == "scored-pairs"


@pytest.mark.parametrize(
    ("columns", "goal", "what"),
    [
        (
            {"text": first},
            "retrieval",
            r"--goal retrieval needs two columns of texts .*text \(texts\); leave --goal out",
        ),
        (
            {"text": first, "label": lambda n: n % 2},
            "sts",
            r"--goal sts needs .* --goal classification or topics fits them",
        ),
        ({"a": first, "b": second}, "classification", r"--goal classification needs .* --goal retrieval"),
        (
            {"query": first, "answer": second, "score": lambda n: n / 7},
            "retrieval",
            r"score has many values; .*--goal sts",
        ),
        (
            {"weight": lambda n: n / 3, "height": lambda n: n * 2},
            None,
            r"has no columns that a recipe could use.*weight \(numbers\)",
        ),
    ],
)
def test_columns_that_do_not_fit_are_listed_with_what_to_do(tmp_path, columns, goal, what):
    with pytest.raises(DataError, match=rf"table\.csv: .*{what}"):
        find_shape(make(tmp_path, **columns), goal)


def test_nested_records_are_no_column_of_a_known_type(tmp_path):
    path = shapes_of_data.write_jsonl(tmp_path / "x.jsonl", [{"turns": [{"who": "me"}]}, {"turns": [{"who": "you"}]}])
    with pytest.raises(DataError, match=r"turns \(values of several types\)"):
        find_shape(look(path), None)


@pytest.mark.parametrize(
    ("values", "content"),
    [
        (["1", "2", "-3"], "whole"),
        (["1", "2.5", "1e-3"], "number"),
        ([1, 2, 3.0], "whole"),
        ([True, False], "flag"),
        (["1", "2", "n/a"], "text"),
        (["[1, 2.5]", "[0, 1]"], "vector"),
        ([["a", "b"], ["c"]], "texts"),
        (["a.png", "b/c.JPG"], "image"),
        (["", None, " "], "empty"),
        ([{"a": 1}, "x"], "other"),
    ],
)
def test_the_content_is_that_of_the_values(values, content):
    assert describe_column("x", values).content == content


def test_a_class_repeats_and_an_id_does_not():
    label = describe_column("x", ["a", "b", "a", "b", "c", "c"])
    number = describe_column("x", ["1", "2", "3", "4", "5", "6"])
    code = describe_column("x", ["a-1", "b-2", "c-3"])
    assert (label.is_class, label.is_id) == (True, False)
    assert (number.is_class, number.is_id) == (False, True)
    assert (code.is_text, code.is_id) == (False, True)


def test_no_name_stands_twice_in_a_role():
    for names in NAMES.values():
        assert len(set(names)) == len(names)


def test_a_column_of_texts_that_is_not_read_is_named(tmp_path):
    table = make(tmp_path, question=first, answer=second, note=third)
    found = find_shape(table, None)
    assert found.columns == {"anchor": "question", "positive": "answer"}
    assert found.doubts == ["texts of note are not read; call a column `negative` if it holds wrong answers"]


def test_a_column_of_wrong_answers_has_negatives(tmp_path):
    found = find_shape(make(tmp_path, question=first, answer=second, wrong=third), None)
    assert (found.shape, found.columns["negative"]) == ("triplets", "wrong")
