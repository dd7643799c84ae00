"""Folders of BEIR and mteb: where each part is looked for, and which names its columns may have."""

from __future__ import annotations

import json

import pytest

from zoo.core.errors import DataError
from zoo.evaluation import retrieval_folder
from zoo.evaluation.retrieval_folder import find_sources

BEIR = {
    "corpus.jsonl": {"_id": "d", "title": "", "text": "a"},
    "queries.jsonl": {"_id": "q", "text": "a"},
    "qrels/test.jsonl": {"query-id": "q", "corpus-id": "d", "score": 1},
}


def write(base, files):
    for name, row in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(json.dumps(row) + "\n")


def replace(part, name, row=None):
    """Return the files of BEIR with another file for one part."""
    old = next(file for file in BEIR if file.startswith(part))
    return {file: content for file, content in BEIR.items() if file != old} | {name: row or BEIR[old]}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("corpus", "corpus.jsonl"),
        ("corpus", "corpus/test.jsonl"),
        ("corpus", "corpus/test-0.jsonl"),
        ("corpus", "corpus/corpus.jsonl"),
        ("corpus", "corpus/corpus-00000-of-00001.jsonl"),
        ("corpus", "corpus/any.jsonl"),
        ("queries", "queries.jsonl"),
        ("queries", "queries/test.jsonl"),
        ("queries", "queries/test-0.jsonl"),
        ("queries", "queries/queries.jsonl"),
        ("queries", "queries/queries-0.jsonl"),
        ("queries", "queries/any.jsonl"),
        ("qrels", "qrels/test.jsonl"),
        ("qrels", "qrels/test-0.jsonl"),
        ("qrels", "default/test.jsonl"),
        ("qrels", "default/test-0.jsonl"),
        ("qrels", "data/test.jsonl"),
        ("qrels", "data/test-0.jsonl"),
        ("qrels", "qrels.jsonl"),
    ],
)
def test_a_part_is_found_under_the_names_of_beir_and_mteb(tmp_path, part, name):
    write(tmp_path, replace(part, name))
    sources = find_sources(tmp_path, "test")
    assert sources[part].path == str(tmp_path / name)
    assert list(sources) == ["corpus", "queries", "qrels"]


@pytest.mark.parametrize(
    "name", ["top_ranked.jsonl", "top_ranked/test.jsonl", "top_ranked/test-0.jsonl", "top_ranked/x.jsonl"]
)
def test_candidates_may_be_there(tmp_path, name):
    write(tmp_path, {**BEIR, name: {"query-id": "q", "corpus-ids": ["d"]}})
    source = find_sources(tmp_path, "test")["top_ranked"]
    assert source.path == str(tmp_path / name)
    assert source.columns == {"query_id": "query-id", "document_ids": "corpus-ids"}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("corpus", "corpus/{}.jsonl"),
        ("queries", "queries/{}.jsonl"),
        ("qrels", "qrels/{}.jsonl"),
        ("qrels", "default/{}.jsonl"),
        ("qrels", "data/{}.jsonl"),
    ],
)
def test_the_file_of_the_split_comes_before_the_others(tmp_path, part, name):
    files = replace(part, name.format("dev"))
    files = {file.replace("qrels/test", "qrels/dev"): row for file, row in files.items()}
    write(tmp_path, files | {name.format("train"): files[name.format("dev")]})
    assert find_sources(tmp_path, "dev")[part].path == str(tmp_path / name.format("dev"))


@pytest.mark.parametrize("qrels", ["qrels/train.jsonl", "default/train.jsonl", "qrels/testing.jsonl"])
def test_the_judgements_of_another_split_are_not_taken(tmp_path, qrels):
    write(tmp_path, replace("qrels", qrels))
    with pytest.raises(
        DataError, match=r"holds no qrels/test\[-.\]\*; it takes a corpus, queries and qrels as in BEIR"
    ):
        find_sources(tmp_path, "test")


def test_a_file_beside_comes_before_a_folder_and_other_files_are_ignored(tmp_path):
    write(tmp_path, {**BEIR, "corpus/test.jsonl": {"_id": "x", "text": "x"}, "corpus.txt": {}, "corpus.d/a.jsonl": {}})
    assert find_sources(tmp_path, "test")["corpus"].path == str(tmp_path / "corpus.jsonl")


def test_parts_of_a_data_set_are_one_and_two_formats_are_refused(tmp_path):
    row = BEIR["corpus.jsonl"]
    write(tmp_path, replace("corpus", "corpus/test-0.jsonl") | {"corpus/test-1.jsonl": row})
    assert find_sources(tmp_path, "test")["corpus"].path == str(tmp_path / "corpus/test[-.]*")
    write(tmp_path, {"corpus/test-1.csv": row})
    with pytest.raises(
        DataError, match=r"corpus holds test-0\.jsonl and test-1\.csv and test-1\.jsonl; keep one of them"
    ):
        find_sources(tmp_path, "test")


@pytest.mark.parametrize(
    ("part", "row", "columns"),
    [
        ("corpus", {"_id": 1, "text": "a", "title": "t"}, {"id": "_id", "text": "text", "title": "title"}),
        ("corpus", {"id": 1, "text": "a"}, {"id": "id", "text": "text"}),
        ("corpus", {"id": 1, "_id": 1, "text": "a"}, {"id": "_id", "text": "text"}),
        ("corpus", {"name": 1, "text": "a"}, {"text": "text"}),
        ("queries", {"_id": 1, "text": "a", "title": "t"}, {"id": "_id", "text": "text"}),
        ("queries", {"id": 1, "text": "a"}, {"id": "id", "text": "text"}),
        *(
            ("qrels", {query: 1, document: 2, score: 3}, {"query_id": query, "document_id": document, "score": score})
            for query, document, score in (
                ("query-id", "corpus-id", "score"),
                ("query_id", "corpus_id", "relevance"),
                ("qid", "document_id", "score"),
                ("qid", "docid", "relevance"),
            )
        ),
        ("qrels", {"qid": 1, "docid": 2}, {"query_id": "qid", "document_id": "docid"}),
        *(
            ("top_ranked", {query: 1, documents: [2]}, {"query_id": query, "document_ids": documents})
            for query, documents in (("query_id", "corpus_ids"), ("qid", "document_ids"), ("query-id", "corpus-ids"))
        ),
    ],
)
def test_columns_have_the_names_of_beir_mteb_or_trec(tmp_path, part, row, columns):
    write(tmp_path, replace(part, f"{part}.jsonl", row) if part != "top_ranked" else {**BEIR, "top_ranked.jsonl": row})
    assert find_sources(tmp_path, "test")[part].columns == columns


def test_a_folder_that_is_missing_or_lacks_parts_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=f"{tmp_path}/gone: there is no such folder"):
        find_sources(tmp_path / "gone", "test")
    with pytest.raises(DataError, match=rf"{tmp_path}: holds no corpus\.\* and no queries\.\* and no qrels/dev"):
        find_sources(tmp_path, "dev")
    assert retrieval_folder.resolve("a", tmp_path) == tmp_path / "a"
    assert retrieval_folder.resolve("/a", tmp_path).as_posix() == "/a"
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert retrieval_folder.resolve("$ZOO_DATA/b", tmp_path / "x") == tmp_path / "b"
