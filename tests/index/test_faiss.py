"""Indexes of faiss: filters, removals and additions hold for every type, and the choice keeps its promises."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import zoo
from zoo.core.errors import ZooError
from zoo.index import arrays, changes, choice, faiss_codec, rows
from zoo.index.choice import Wish
from zoo.index.faiss_codec import FaissCodec, FaissType

pytest.importorskip("faiss")
COUNT, DIM = 2500, 64
TYPES = [FaissType(4), FaissType(1), FaissType(8), FaissType(0), FaissType(4, 16), FaissType(8, 16), FaissType(0, 16)]


@pytest.fixture(scope="module")
def vectors():
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((40, DIM))
    rows = centres[draw.integers(0, 40, COUNT)] + 0.7 * draw.standard_normal((COUNT, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", params=TYPES, ids=lambda kind: kind.name)
def codec(request, vectors):
    ranges = np.stack([vectors.min(0), vectors.max(0)])
    return FaissCodec(request.param, faiss_codec.train(request.param, vectors), ranges, probes=4)


def store(codec, folder, name, *blocks):
    return [folder / file for file in codec.write(iter(blocks), folder, name)]


def test_only_allowed_vectors_are_found_and_as_many_as_there_are(codec, vectors, tmp_path):
    opened = codec.open(store(codec, tmp_path, "a", vectors[:1000], vectors[1000:]))
    for allowed_count in (3, 40, 1200):
        allowed = np.zeros(COUNT, bool)
        allowed[np.random.default_rng(allowed_count).permutation(COUNT)[:allowed_count]] = True
        scores, numbers = opened.search(vectors[:30], 10, allowed)
        assert numbers.shape == (30, min(10, allowed_count))
        assert allowed[numbers].all()
        assert all(len(set(row)) == len(row) for row in numbers)
        assert (np.diff(scores, axis=1) <= 1e-6).all()
    assert opened.search(vectors[:2], 10, np.zeros(COUNT, bool))[1].shape == (2, 0)


def test_merged_shards_find_what_one_shard_of_the_same_codes_finds(codec, vectors, tmp_path):
    whole = codec.open(store(codec, tmp_path, "whole", vectors))
    parts = [store(codec, tmp_path, "a", vectors[:900]), store(codec, tmp_path, "b", vectors[900:])]
    draw = np.random.default_rng(3)
    masks = [draw.random(900) < 0.7, draw.random(COUNT - 900) < 0.7]
    merged = codec.open([tmp_path / name for name in codec.merge(list(zip(parts, masks, strict=True)), tmp_path, "m")])
    kept = np.flatnonzero(np.concatenate(masks))
    assert len(merged) == len(kept)
    scores, numbers = merged.search(vectors[:40], 10, None)
    allowed = np.isin(np.arange(COUNT), kept)
    expected_scores, expected = whole.search(vectors[:40], 10, allowed)
    assert np.allclose(scores, expected_scores, atol=1e-5)
    assert np.mean(kept[numbers] == expected) > 0.99


def test_the_bytes_are_those_of_the_files(codec, vectors, tmp_path):
    small, large = (
        sum(path.stat().st_size for path in store(codec, tmp_path, f"s{count}", vectors[:count]))
        for count in (500, 1500)
    )
    assert (large - small) / 1000 == pytest.approx(codec.bytes_per_vector, rel=0.02)


def test_rescoring_finds_nearly_all_neighbours(vectors):
    questions = choice.draw_questions(vectors, None)
    figures = {figure.name: figure for figure in choice.measure_types(vectors, questions)}
    assert figures["float32"].recall == 1
    assert figures["RaBitQ1"].recall < figures["RaBitQ2"].recall < figures["RaBitQ4"].recall
    assert figures["sign+int8"].recall > figures["RaBitQ2"].recall
    assert figures["int8"].recall > 0.97


def test_the_choice_is_the_cheapest_with_the_recall_or_the_best_within_the_budget(vectors):
    questions = choice.draw_questions(vectors, None)
    lines: list[str] = []

    def choose(**wish):
        kind, figures = choice.choose_type(vectors, questions, Wish(**wish), lines.append)
        return ("float32" if kind is None else kind.name), {figure.name: figure for figure in figures}

    name, figures = choose(budget=40)
    assert name == max((f for f in figures.values() if f.bytes <= 40), key=lambda f: f.recall).name
    name, figures = choose(recall=0.8)
    assert name == min((f for f in figures.values() if f.recall >= 0.8), key=lambda f: f.bytes).name
    assert any("recall@10" in line for line in lines)
    assert not any("warning" in line for line in lines)
    name, figures = choose(budget=16, recall=0.99)
    assert name == "RaBitQ1"
    assert "warning: no type within 16 bytes has the recall 0.99; the best is RaBitQ1" in lines[-1]


def test_a_question_never_finds_itself(vectors):
    questions = choice.draw_questions(vectors, None)
    truth = choice.find_exact(vectors, questions)
    own_only = np.repeat(questions.own[:, None], choice.TOP + 1, 1)
    assert truth.compute_recall(own_only) == 0
    scores = questions.vectors @ vectors.T
    scores[np.arange(len(scores)), questions.own] = -np.inf
    best = np.argsort(-scores, axis=1)[:, : choice.TOP + 1]
    assert truth.compute_recall(best) == 1
    best[:, :5] = -1
    assert truth.compute_recall(best) == pytest.approx(0.5)


@pytest.fixture
def given(encoder, tmp_path):
    """Rows, and vectors for them that lie in clusters."""
    draw = np.random.default_rng(1)
    centres = draw.standard_normal((30, encoder.dim))
    vectors = (centres[np.arange(1600) % 30] + 0.5 * draw.standard_normal((1600, encoder.dim))).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    return [{"text": f"row {number}", "parity": number % 2} for number in range(1600)], tmp_path / "vectors.npy"


@pytest.mark.parametrize("lists", [False, True])
def test_an_index_of_given_vectors_is_changed_like_any_other(encoder, given, tmp_path, monkeypatch, lists):
    data, file = given
    monkeypatch.setattr(choice, "EXACT_ROWS", 10)
    monkeypatch.setattr(choice, "FLAT_ROWS", 1000 if lists else 10**9)
    monkeypatch.setattr(encoder, "encode_document", lambda inputs: np.ones((len(inputs), encoder.dim), np.float32))
    lines: list[str] = []
    index = zoo.Index.build(encoder, data, tmp_path / "index", vectors=file, say=lines.append)
    assert index.codec.name == ("IVF40,RaBitQ4" if lists else "RaBitQ4")
    assert index.manifest.facts["recall"]["value"] > 0.8
    assert any("recall@10" in line for line in lines)
    assert ("lie closer together" in lines[-1]) == (index.manifest.facts["recall"]["value"] < choice.USUAL_RECALL)
    vectors = np.load(file)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    masks = index.find_rows("parity = 1")
    found, _ = index.search_vectors(vectors[:20], 10, masks)
    assert (found.rows % 2 == 1).all()
    index.remove([str(number) for number in range(0, 1600, 4)])
    index.compact()
    assert len(index) == 1200
    found, _ = index.search_vectors(vectors[1:20:4], 1, index.find_rows())
    texts = [index.shards[0].read_rows([int(row)])[int(row)]["text"] for row in found.rows[:, 0]]
    assert texts == [f"row {number}" for number in range(1, 20, 4)]


def test_added_rows_that_differ_are_told(encoder, given, tmp_path, monkeypatch):
    data, file = given
    monkeypatch.setattr(choice, "EXACT_ROWS", 10)
    monkeypatch.setattr(choice, "FLAT_ROWS", 1000)
    index = zoo.Index.build(encoder, data, tmp_path / "index", vectors=file)
    np.save(tmp_path / "same.npy", np.load(file)[::-1][:100])
    np.save(tmp_path / "other.npy", np.random.default_rng(5).standard_normal((100, encoder.dim)).astype(np.float32))
    lines: list[str] = []
    index.add(data[:100], vectors=tmp_path / "same.npy", say=lines.append)
    assert not any("warning" in line for line in lines)
    index.add(data[:100], vectors=tmp_path / "other.npy", say=lines.append)
    assert any("warning: the added rows differ" in line and "--replace" in line for line in lines)
    assert index.manifest.facts["drift"]["added"] > index.manifest.facts["drift"]["trained"]


def test_the_vectors_must_fit_the_rows(encoder, given, tmp_path):
    data, _ = given
    for name, array, message in (
        ("short", np.ones((3, encoder.dim), np.float32), "3 vectors for 1,600 rows"),
        ("wide", np.ones((1600, 5), np.float32), "5 components"),
        ("whole", np.ones((1600, encoder.dim), np.int64), "takes float vectors"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ZooError, match=message):
            zoo.Index.build(encoder, data, tmp_path / "index", vectors=tmp_path / f"{name}.npy")


def test_the_memory_holds_one_block_of_vectors(encoder, tmp_path, monkeypatch):
    """Blocks are small beside all vectors, and each is dropped before the next but one."""
    blocks: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def encode(inputs):
        block = np.random.default_rng(len(blocks)).standard_normal((len(inputs), encoder.dim)).astype(np.float32)
        blocks.append(weakref.ref(block))
        alive.append(sum(len(found) for reference in blocks if (found := reference()) is not None))
        return block

    monkeypatch.setattr(encoder, "encode_document", encode)
    monkeypatch.setattr(rows.read_blocks, "__defaults__", (64,))
    data = [{"text": f"row {number}"} for number in range(2000)]
    changes.build(encoder, data, tmp_path / "index", changes.BuildRequest(code="float32", shard_rows=500))
    assert len(blocks) > 30
    assert max(alive) <= 3 * 64


def test_rows_taken_from_a_file_are_those_of_their_numbers(vectors, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 100)
    longest: list[int] = []

    class Stored:
        """Counts the rows that are read at once."""

        def __getitem__(self, rows):
            part = vectors[rows]
            longest.append(len(part))
            return part

    numbers = np.array([0, 1, 99, 100, 750, 751, COUNT - 1])
    assert (arrays.take_rows(Stored(), numbers) == vectors[numbers]).all()
    assert max(longest) <= 100
    assert arrays.take_rows(vectors, numbers[:0]).shape == (0, DIM)


def test_a_sample_with_near_rows_tells_the_recall_over_all_rows(monkeypatch):
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((40, 32))
    rows = (centres[np.arange(4000) % 40] + 0.7 * draw.standard_normal((4000, 32))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    questions = choice.draw_questions(rows, None)
    whole = {figure.name: figure.recall for figure in choice.measure_types(rows, questions)}
    monkeypatch.setattr(choice, "SAMPLE_ROWS", 400)
    sampled = {figure.name: figure.recall for figure in choice.measure_types(rows, questions)}
    monkeypatch.setattr(choice, "draw_competitors", lambda vectors, _: np.sort(draw.permutation(len(vectors))[:400]))
    careless = {figure.name: figure.recall for figure in choice.measure_types(rows, questions)}
    for name in ("RaBitQ2", "RaBitQ4", "RaBitQ6"):
        assert sampled[name] == pytest.approx(whole[name], abs=0.04)
    assert careless["RaBitQ4"] > whole["RaBitQ4"] + 0.02
