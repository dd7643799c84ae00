"""`task: retrieval` and `task: reranking`: their layouts, judgements by id, candidates, and folders."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from zoo.core.errors import DataError
from zoo.evaluation.spec import Task

CORPUS = [{"id": i, "text": text, "title": text.upper()} for i, text in enumerate("abcd")]
QUERIES = [{"id": i, "text": text} for i, text in enumerate(("dog", "cat", "cow"))]
SOURCE = {"source": "file", "path": "a.jsonl"}


def load(task, **fields):
    return TypeAdapter(Task).validate_python({"task": task, **fields})


@pytest.fixture
def write(tmp_path):
    """Write tables as files and return their data sections."""

    def write_tables(**tables):
        for name, rows in tables.items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {name: {"source": "file", "path": f"{name}.jsonl"} for name in tables}

    return write_tables


def judge(*grades, **columns):
    return [{"query_id": query, "document_id": document, "score": grade} for query, document, grade in grades]


def shape(task, folder):
    """Return documents, queries, right documents and candidates by id, and the titles."""
    split = task.shape(task.read_tables(folder))["default"]["test"]
    documents, queries = ({row["id"]: row["text"] for row in split[part]} for part in ("corpus", "queries"))
    titles = list(split["corpus"]["title"]) if "title" in split["corpus"].column_names else None
    return documents, queries, split["relevant_docs"], split["top_ranked"], titles


def test_a_reranking_by_id_ranks_the_judged_documents_of_each_query(write, tmp_path):
    grades = judge((0, 2, 2), (0, 1, 0), (1, 1, 0), (2, 3, 1))
    task = load("reranking", **write(corpus=CORPUS, queries=QUERIES, qrels=grades))
    documents, queries, right, candidates, titles = shape(task, tmp_path)
    assert documents == {"0": "a", "1": "b", "2": "c", "3": "d"}
    assert queries == {"0": "dog", "2": "cow"}, "a query without a right document is left out"
    assert right == {"0": {"2": 2}, "2": {"3": 1}}
    assert candidates == {"0": ["1", "2"], "2": ["3"]}, "the right one must not come first"
    assert titles == ["A", "B", "C", "D"]


def test_grades_and_titles_of_a_reranking_may_be_left_out(write, tmp_path):
    corpus = [{"id": 1, "text": "a"}]
    task = load("reranking", **write(corpus=corpus, queries=QUERIES, qrels=[{"query_id": 0, "document_id": 1}]))
    assert shape(task, tmp_path) == ({"1": "a"}, {"0": "dog"}, {"0": {"1": 1}}, {"0": ["1"]}, None)


def test_titles_and_texts_of_a_reranking_may_be_empty(write, tmp_path):
    corpus = [{"id": 1, "text": "", "title": "t"}, {"id": 2, "text": "a", "title": ""}]
    task = load("reranking", **write(corpus=corpus, queries=QUERIES, qrels=judge((0, 1, 1))))
    documents, _, _, _, titles = shape(task, tmp_path)
    assert (documents, titles) == ({"1": "", "2": "a"}, ["t", ""])


def test_candidates_of_a_reranking_replace_the_judged_documents(write, tmp_path):
    ranked = [{"query_id": 0, "document_ids": [3, 0]}, {"query_id": 1, "document_ids": []}]
    parts = write(corpus=CORPUS, queries=QUERIES, qrels=judge((0, 0, 1), (1, 1, 1), (2, 1, 1)), top_ranked=ranked)
    _, queries, right, candidates, _ = shape(load("reranking", **parts), tmp_path)
    assert (queries, right, candidates) == ({"0": "dog"}, {"0": {"0": 1}}, {"0": ["3", "0"]})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"qrels": judge((0, 0, 0))}, r"qrels\.jsonl: no query has a relevant document and candidates"),
        (
            {"qrels": judge((0, 0, 1)), "top_ranked": [{"query_id": 1, "document_ids": [1]}]},
            "no query has a relevant document and candidates",
        ),
        (
            {"qrels": judge((0, 0, 1)), "top_ranked": [{"query_id": 0, "document_ids": [9, 8]}]},
            r"top_ranked\.jsonl: document '8' is not in the corpus",
        ),
        ({"qrels": judge((0, 9, 1))}, "document '9' of the qrels is not there"),
        ({"qrels": judge((0, 0, 1)), "corpus": [{"text": "a"}]}, "needs a column 'id'"),
        ({"qrels": judge((0, 0, 1)), "queries": [{"text": "a"}]}, "needs a column 'id'"),
        ({"qrels": [{"document_id": 0}]}, "needs a column 'query_id'"),
        ({"qrels": [{"query_id": 0}]}, "needs a column 'document_id'"),
        ({"qrels": judge((0, 0, 1)), "top_ranked": [{"document_ids": [1]}]}, "needs a column 'query_id'"),
        ({"qrels": judge((0, 0, 1)), "top_ranked": [{"query_id": 0}]}, "needs a column 'document_ids'"),
    ],
)
def test_a_reranking_whose_parts_do_not_fit_is_refused(write, tmp_path, tables, message):
    parts = write(**{"corpus": CORPUS, "queries": QUERIES, **tables})
    with pytest.raises(DataError, match=message):
        shape(load("reranking", **parts), tmp_path)


@pytest.mark.parametrize(
    "row",
    [{"query": "a", "positive": ["b"]}, {"positive": ["a"], "negative": ["b"]}, {"query": "a", "negative": ["b"]}],
)
def test_a_row_of_a_reranking_has_a_query_and_candidates_of_both_kinds(write, tmp_path, row):
    missing = ({"query", "positive", "negative"} - row.keys()).pop()
    with pytest.raises(DataError, match=f"needs a column '{missing}'"):
        shape(load("reranking", **write(data=[row])), tmp_path)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("data", "folder"),
        ("data", "corpus"),
        ("folder", "qrels"),
        ("corpus",),
        ("corpus", "queries"),
        ("queries", "qrels"),
        ("corpus", "qrels"),
        ("data", "corpus", "queries", "qrels"),
    ],
)
def test_a_reranking_has_one_layout(parts):
    fields = {part: "a" if part == "folder" else SOURCE for part in parts}
    with pytest.raises(ValidationError, match="give `data` .query, positive, negative., `queries`"):
        load("reranking", **fields)


@pytest.mark.parametrize("part", ["data", "corpus", "queries", "qrels"])
def test_a_search_has_a_folder_or_data_sections(part):
    with pytest.raises(ValidationError, match="give either `folder` or data sections, not both"):
        load("retrieval", folder="a", **{part: SOURCE})
    assert load("retrieval", folder="a").split == "test"


@pytest.mark.parametrize("task", ["retrieval", "reranking"])
def test_a_folder_is_read_at_its_split_and_only_a_reranking_has_candidates(write, tmp_path, task):
    (tmp_path / "in" / "qrels").mkdir(parents=True)
    write(**{"in/corpus": CORPUS, "in/queries": QUERIES, "in/qrels/dev": judge((0, 0, 1), (1, 1, 1))})
    write(**{"in/top_ranked": [{"query_id": 0, "document_ids": [3, 0]}]})
    section = load(task, folder="in", split="dev")
    resolved = section.resolve(tmp_path)
    assert resolved.folder is None
    assert resolved.qrels.path == str(tmp_path / "in" / "qrels" / "dev.jsonl")
    assert (resolved.corpus is None, resolved.queries is None, resolved.data is None) == (False, False, True)
    assert list(section.read_tables(tmp_path)) == [
        "corpus",
        "queries",
        "qrels",
        *["top_ranked"] * (task == "reranking"),
    ]
    expected = {"0": ["3", "0"]} if task == "reranking" else None
    assert shape(section, tmp_path)[3] == expected
    assert section.find_mistakes(tmp_path) == []
    with pytest.raises(DataError, match="holds no qrels/test"):
        load(task, folder="in").resolve(tmp_path)
    by_rows = load(task, data=SOURCE)
    assert by_rows.resolve(tmp_path) is by_rows


def test_texts_of_a_search_may_have_ids_of_their_own_and_empty_documents(write, tmp_path):
    parts = write(data=[{"query": "dog", "document": "a"}], corpus=[{"id": 5, "text": ""}, {"id": 6, "text": "b"}])
    documents, queries, _, candidates, titles = shape(load("retrieval", **parts), tmp_path)
    assert sorted(documents.values()) == ["", "a", "b"]
    assert (list(queries.values()), candidates, titles) == (["dog"], None, None)
    with pytest.raises(DataError, match="query: is empty"):
        shape(load("retrieval", **write(data=[{"query": "", "document": "a"}])), tmp_path)


def test_judgements_without_titles_and_with_two_texts_of_one_id(write, tmp_path):
    corpus = [{"id": 1, "text": "a"}, {"id": 1, "text": "a"}]
    parts = write(corpus=corpus, queries=QUERIES, qrels=judge((0, 1, 3)))
    assert shape(load("retrieval", **parts), tmp_path) == ({"1": "a"}, {"0": "dog"}, {"0": {"1": 3}}, None, None)
    parts = write(corpus=[*corpus, {"id": 1, "text": "b"}], queries=QUERIES, qrels=judge((0, 1, 3)))
    with pytest.raises(DataError, match=r"corpus\.jsonl: two rows have the id '1'"):
        shape(load("retrieval", **parts), tmp_path)


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        (judge((0, 0, 0)), r"qrels\.jsonl: no query has a relevant document$"),
        (judge((0, 9, 1)), "document '9' of the qrels is not there"),
        (judge((9, 9, 1)), "query '9' of the qrels is not there"),
        (judge((0, 0, 1.5)), "a relevance grade is a whole number from 0 on, not 1.5"),
        (judge((0, 0, 1), (0, 0, 2)), "query '0' and document '0' have two grades"),
        (judge((0, 0, 0), (0, 0, 1)), "query '0' and document '0' have two grades"),
    ],
)
def test_judgements_that_do_not_fit_are_named(write, tmp_path, grades, message):
    with pytest.raises(DataError, match=message):
        shape(load("retrieval", **write(corpus=CORPUS, queries=QUERIES, qrels=grades)), tmp_path)
