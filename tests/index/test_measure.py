"""Figures of an index are those of an exact search over its rows, whatever its codes are."""

from __future__ import annotations

import json

import numpy as np
import pytest

import zoo
from zoo.cli.main import main
from zoo.core.errors import DataError, ZooError
from zoo.index import exact, measure
from zoo.index.measure import Question
from zoo.index.vectors import Encoded

pytest.importorskip("faiss")
REMOVED = ["r5", "r130", "r299"]


@pytest.fixture
def coded(encoder, rows, tmp_path):
    """An index of one bit a component in two shards, of which rows were removed."""
    index = zoo.Index.build(encoder, rows[:200], tmp_path / "coded", budget="24B")
    index.add(rows[200:])
    index.remove(REMOVED)
    return index


@pytest.fixture(scope="session")
def questions(rows):
    return [Question(row["text"][4:], (row["id"], "r5")) for row in rows[10:40]] + [Question("fever")]


@pytest.mark.parametrize("top", [1, 7, 400])
def test_recall_and_ndcg_are_those_of_matrix_products(coded, encoder, rows, questions, top):
    vectors = encoder.encode_document([row["text"] for row in rows])
    names = np.array([row["id"] for row in rows])
    kept = np.flatnonzero(~np.isin(names, REMOVED))
    scores = encoder.encode_query([question.text for question in questions]) @ vectors[kept].T
    best = kept[np.argsort(-scores, axis=1, kind="stable")[:, :top]]
    found = coded.search([question.text for question in questions], top)
    shares = [np.mean(np.isin(names[own], [hit.id for hit in hits])) for own, hits in zip(best, found, strict=True)]
    gains = [
        measure.compute_gain(np.isin(names[own], question.relevant), 2, top)
        for own, question in zip(best, questions, strict=True)
        if question.relevant
    ]
    figures = measure.measure(coded, questions, top)
    assert figures[f"recall@{top}"] == pytest.approx(np.mean(shares), abs=0.01)  # texts may have nearly equal scores
    assert figures[f"ndcg@{top}_exact"] == pytest.approx(np.mean(gains), abs=1e-3)
    if top < 10:
        assert figures[f"recall@{top}"] < 1
    assert figures["queries"] == len(questions)


def test_given_vectors_stand_in_for_the_encoder(coded, encoder, rows, questions, tmp_path, monkeypatch):
    expected = measure.measure(coded, questions)
    np.save(tmp_path / "vectors.npy", encoder.encode_document([row["text"] for row in rows]))
    monkeypatch.setattr(type(encoder), "encode_document", None)
    figures = measure.measure(coded, questions, vectors=tmp_path / "vectors.npy")
    for name in ("recall@10", "ndcg@10", "ndcg@10_exact"):
        assert figures[name] == pytest.approx(expected[name], abs=1e-6)
    assert "recall@10" not in measure.measure(coded, questions, exact=False)
    np.save(tmp_path / "few.npy", np.zeros((3, encoder.dim), np.float32))
    with pytest.raises(DataError, match="holds 3 vectors for 300 rows"):
        measure.measure(coded, questions, vectors=tmp_path / "few.npy")


def test_the_bytes_of_all_uses_are_those_of_all_files(coded, index):
    for opened in (coded, index):
        parts = measure.count_bytes(opened)
        files = [file for file in opened.path.iterdir() if file.name not in ("manifest.json", ".lock")]
        assert sum(parts.values()) == opened.byte_count == sum(file.stat().st_size for file in files)
    assert measure.count_bytes(coded)["bytes_of_codebooks"] > 0
    assert measure.count_bytes(index)["bytes_of_codebooks"] == 0
    assert measure.count_bytes(index)["bytes_of_vectors"] == 300 * 32 * 4 + 128


def test_a_row_has_the_score_of_its_best_window():
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    rows = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4])
    places = np.column_stack([rows, rows, rows])
    expected = [
        [max(query @ vectors[place] for place in np.flatnonzero(rows == row)) for row in range(5)] for query in queries
    ]
    np.testing.assert_allclose(exact.score_rows(queries, Encoded(vectors, places), 5), expected, rtol=1e-5)


def test_equal_scores_count_once():
    scores, numbers = np.array([[3.0, 2.0]], np.float32), np.array([[4, 7]])
    found = np.array([[3.0, 2.0, 2.0]], np.float32)  # the third is as good as the second
    assert exact.Exact(scores, numbers, found).compute_recall() == 1
    assert exact.Exact(scores, numbers, found[:, :1]).compute_recall() == 0.5
    assert exact.Exact(scores, numbers, np.array([[1.0, -np.inf]], np.float32)).compute_recall() == 0


def test_the_command_measures(coded, backbone, tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"text": "fever and cough", "relevant": "r7"}\n')
    words = ["index", str(coded.path), "--measure", str(tmp_path / "q.jsonl"), "--model", backbone, "--json", "-k", "3"]
    assert main(words) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert 0 <= facts["recall@3"] <= 1
    assert {"ndcg@3", "ndcg@3_exact", "search_p50_ms", "search_p99_ms", "bytes_of_words"} <= facts.keys()
    assert "encoding 297 rows again" in captured.err
    assert main([*words, "--no-exact"]) == 0
    captured = capsys.readouterr()
    assert "recall@3" not in json.loads(captured.out)
    assert "again" not in captured.err


def test_images_cannot_be_encoded_again(coded, questions):
    object.__setattr__(coded.model.layout, "image", "picture")
    with pytest.raises(ZooError, match="images are not kept, so give their vectors with --vectors, or add --no-exact"):
        measure.measure(coded, questions)
