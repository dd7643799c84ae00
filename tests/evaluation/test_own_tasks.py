"""How rows of the user's own data become tasks of mteb: shapes, scores, columns and names."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from PIL import Image
from pydantic import TypeAdapter, ValidationError

import zoo
from zoo import evaluation
from zoo.core.errors import DataError, ZooError
from zoo.evaluation import mteb_build, shaping, tasks
from zoo.evaluation.spec import Task

CUT_OFFS = (1, 3, 5, 10, 20, 100)
PAIR = {"sentence1": "the dog", "sentence2": "the cat"}


@pytest.fixture
def write(tmp_path):
    """Write rows as a file and return the `data:` section that reads it."""

    def write_rows(name, rows):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"source": "file", "path": f"{name}.jsonl"}

    for i in range(3):
        Image.fromarray(np.full((4, 4, 3), 80 * i, np.uint8)).save(tmp_path / f"{i}.png")
    return write_rows


def prepare(folder, **fields):
    """Return the ready task, its mteb task with data, and its entries of lock.json."""
    lock = {}
    ready = TypeAdapter(Task).validate_python(fields).prepare(folder, lock)
    mteb_task = ready.make()
    mteb_task.load_data()
    return ready, mteb_task, lock


LABELLED = [{"text": "the dog", "label": 1}, {"text": "a cat", "label": -1}, {"text": "the red cat", "label": 1}]
PICTURES = [{"image": f"{i}.png", "label": "ab"[i % 2]} for i in range(3)]
FORMS = {
    "sts": (
        {"data": [PAIR | {"score": 1.5}, PAIR | {"score": 4}]},
        ("STS", "cosine_spearman", "t2t", ["text"]),
        {"column_names": ("sentence1", "sentence2"), "min_score": 1.5, "max_score": 4},
        {"sentence1": ["the dog"] * 2, "sentence2": ["the cat"] * 2, "score": [1.5, 4]},
    ),
    "pair-classification": (
        {"data": [PAIR | {"label": 1}, PAIR | {"label": 0}]},
        ("PairClassification", "max_ap", "t2t", ["text"]),
        {"input1_column_name": "sentence1", "input2_column_name": "sentence2", "label_column_name": "labels"},
        {"sentence1": ["the dog"] * 2, "sentence2": ["the cat"] * 2, "labels": [1, 0]},
    ),
    "classification": (
        {"data": LABELLED, "train": LABELLED},
        ("Classification", "accuracy", "t2c", ["text"]),
        {"input_column_name": "text", "label_column_name": "label"},
        {"text": [row["text"] for row in LABELLED]},
    ),
    "clustering": (
        {"data": LABELLED},
        ("Clustering", "v_measure", "t2c", ["text"]),
        {"input_column_name": "sentences", "label_column_name": "labels", "max_fraction_of_documents_to_embed": None},
        {"sentences": [row["text"] for row in LABELLED], "labels": ["1", "-1", "1"]},
    ),
    "zero-shot": (
        {"data": LABELLED},
        ("ZeroShotClassification", "accuracy", "t2c", ["text"]),
        {"input_column_name": "text", "label_column_name": "label"},
        {"text": [row["text"] for row in LABELLED], "label": ["1", "-1", "1"]},
    ),
    "image-classification": (
        {"data": PICTURES, "train": PICTURES},
        ("ImageClassification", "accuracy", "i2c", ["image"]),
        {"input_column_name": "image", "label_column_name": "label"},
        {"label": [0, 1, 0]},
    ),
    "image-clustering": (
        {"data": PICTURES},
        ("ImageClustering", "v_measure", "i2c", ["image"]),
        {"input_column_name": "image", "label_column_name": "labels", "max_fraction_of_documents_to_embed": None},
        {"labels": ["a", "b", "a"]},
    ),
    "retrieval": (
        {"data": [{"query": "dog", "document": "the dog"}]},
        ("Retrieval", "ndcg_at_10", "t2t", ["text"]),
        {"k_values": CUT_OFFS},
        None,
    ),
    "reranking": (
        {"data": [{"query": "dog", "positive": ["the dog"], "negative": ["the cat"]}]},
        ("Reranking", "map_at_1000", "t2t", ["text"]),
        {},
        None,
    ),
    "any-retrieval": (
        {"data": [{"query": "dog", "document_image": "1.png"}]},
        ("Any2AnyRetrieval", "ndcg_at_10", "t2i", ["image", "text"]),
        {"k_values": CUT_OFFS},
        None,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_task_has_the_form_and_the_main_score_of_its_kind_in_mteb(write, tmp_path, name):
    parts, form, attributes, columns = FORMS[name]
    sections = {part: write(part, rows) for part, rows in parts.items()}
    ready, mteb_task, lock = prepare(tmp_path, task=name, name="My task/1", **sections)
    metadata = mteb_task.metadata
    assert (metadata.type, metadata.main_score, metadata.category, list(metadata.modalities)) == form
    assert (metadata.name, metadata.dataset["path"]) == ("My task/1", "local/My-task-1")
    assert metadata.dataset["revision"] == mteb_build.compute_revision(ready.spec.read_tables(tmp_path))
    assert (metadata.eval_splits, metadata.eval_langs) == (["test"], ["und-Zzzz"])
    assert {attribute: getattr(mteb_task, attribute) for attribute in attributes} == attributes
    assert (ready.name, ready.is_official, ready.modalities) == ("My task/1", False, frozenset(form[3]))
    assert lock.keys() == {"My task/1" if part == "data" else f"My task/1/{part}" for part in parts}
    entry = lock["My task/1"]
    assert (entry["rows"], entry["skipped"], len(entry["fingerprint"])) == (len(parts["data"]), 0, 64)
    assert entry["origin"]["name"].endswith("data.jsonl")
    if columns:
        rows = mteb_task.dataset["test"]
        assert {column: list(rows[column]) for column in columns} == columns
        named = {key: value for key, value in attributes.items() if key.endswith(("column_name", "column_names"))}
        described = ready.spec.describe_mteb_task(mteb_task.dataset).columns
        assert {key: value for key, value in described.items() if key != "train_split"} == named
        assert described.get("train_split") == ("train" if "train" in parts else None)
    assert ready.make() is not mteb_task


def test_every_task_over_ones_own_data_is_tested():
    assert set(tasks.names()) == set(FORMS) | {"diagnose", "few-shot", "geometry", "infomec", "mmeb", "recognition"}
    assert [tasks.name_of(tasks.load(name)) for name in tasks.names()] == tasks.names()


def test_zero_shot_chooses_among_the_classes_that_occur(write, tmp_path):
    _, mteb_task, _ = prepare(tmp_path, task="zero-shot", data=write("data", LABELLED))
    assert mteb_task.get_candidate_labels() == ["-1", "1"]


def test_pictures_of_a_clustering_keep_their_order(write, tmp_path):
    _, mteb_task, _ = prepare(tmp_path, task="image-clustering", data=write("data", PICTURES))
    assert [np.asarray(image).max() for image in mteb_task.dataset["test"]["image"]] == [0, 80, 160]


# -- retrieval ---------------------------------------------------------------------------------------------------------


def read_search(mteb_task):
    """Return documents, queries and right documents of each query as texts, and the candidates."""
    split = mteb_task.dataset["default"]["test"]
    documents, queries = ({row["id"]: row["text"] for row in split[part]} for part in ("corpus", "queries"))
    right = {
        queries[query]: {documents[name]: grade for name, grade in grades.items()}
        for query, grades in split["relevant_docs"].items()
    }
    candidates = split["top_ranked"]
    if candidates is not None:
        candidates = {queries[query]: [documents[name] for name in names] for query, names in candidates.items()}
    return list(documents.values()), list(queries.values()), right, candidates


def test_equal_texts_of_a_search_are_one_document_and_the_corpus_adds_more(write, tmp_path):
    rows = [("dog", "a"), ("dog", "b"), ("cat", "a")]
    data = write("data", [{"query": query, "document": document} for query, document in rows])
    corpus = write("corpus", [{"text": "c"}, {"text": "a"}])
    _, mteb_task, _ = prepare(tmp_path, task="retrieval", data=data, corpus=corpus)
    documents, queries, right, candidates = read_search(mteb_task)
    assert (sorted(documents), queries) == (["a", "b", "c"], ["dog", "cat"])
    assert right == {"dog": {"a": 1, "b": 1}, "cat": {"a": 1}}
    assert candidates is None
    ids = mteb_task.dataset["default"]["test"]["corpus"]["id"]
    assert sorted(ids) == sorted(map(shaping.make_text_id, "abc"))
    assert {len(name) for name in ids} == {24}


def test_judgements_by_id_keep_grades_and_titles_and_leave_out_queries_without_a_relevant_document(write, tmp_path):
    corpus = write("corpus", [{"id": i, "text": text, "title": text.upper()} for i, text in enumerate("abc")])
    queries = write("queries", [{"id": i, "text": text} for i, text in enumerate(("dog", "cat", "cow"))])
    grades = [(0, 0, 2), (0, 1, 0), (1, 1, 0), (0, 0, 2)]
    qrels = write("qrels", [{"query_id": q, "document_id": d, "score": grade} for q, d, grade in grades])
    _, mteb_task, lock = prepare(tmp_path, task="retrieval", corpus=corpus, queries=queries, qrels=qrels)
    assert read_search(mteb_task) == (["a", "b", "c"], ["dog"], {"dog": {"a": 2}}, None)
    assert list(mteb_task.dataset["default"]["test"]["corpus"]["title"]) == ["A", "B", "C"]
    assert lock.keys() == {"retrieval/corpus", "retrieval/queries", "retrieval/qrels"}
    ungraded = write("qrels", [{"query_id": 2, "document_id": 1}])
    _, mteb_task, _ = prepare(tmp_path, task="retrieval", corpus=corpus, queries=queries, qrels=ungraded)
    assert read_search(mteb_task)[1:3] == (["cow"], {"cow": {"b": 1}})


@pytest.mark.parametrize(
    ("corpus", "qrels", "message"),
    [
        ([{"text": "a"}], [{"query_id": 0, "document_id": 0}], "needs a column 'id'"),
        ([{"id": 0, "text": "a"}], [{"query_id": 1, "document_id": 0}], "query '1' of the qrels is not there"),
        ([{"id": 0, "text": "a"}], [{"query_id": 0, "document_id": 0, "score": -1}], "from 0 on, not -1"),
    ],
)
def test_judgements_that_do_not_fit_are_refused(write, tmp_path, corpus, qrels, message):
    parts = {"corpus": write("corpus", corpus), "queries": write("queries", [{"id": 0, "text": "dog"}])}
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, task="retrieval", qrels=write("qrels", qrels), **parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "give `data`"),
        (("corpus",), "give `data`"),
        (("data", "queries"), "give `data`"),
        (("data", "qrels"), "give `data`"),
        (("queries", "qrels"), "the id layout needs all"),
        (("corpus", "queries"), "the id layout needs all"),
        (("corpus", "qrels"), "the id layout needs all"),
    ],
)
def test_a_search_has_rows_or_judgements_by_id(write, parts, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Task).validate_python({"task": "retrieval", **{part: write(part, []) for part in parts}})


def test_each_query_of_a_reranking_has_its_own_candidates(write, tmp_path):
    rows = [
        {"query": "dog", "positive": ["a", "b"], "negative": ["c", "a"]},
        {"query": "dog", "positive": ["c"], "negative": ["d"]},
    ]
    _, mteb_task, _ = prepare(tmp_path, task="reranking", data=write("data", rows))
    split = mteb_task.dataset["default"]["test"]
    texts = {row["id"]: row["text"] for row in split["corpus"]}
    assert sorted(texts.values()) == ["a", "b", "c", "d"]
    assert [(row["id"], row["text"]) for row in split["queries"]] == [("q0", "dog"), ("q1", "dog")]
    assert {q: sorted(texts[name] for name in names) for q, names in split["top_ranked"].items()} == {
        "q0": ["a", "b", "c"],
        "q1": ["c", "d"],
    }
    assert {
        q: {texts[name]: grade for name, grade in grades.items()} for q, grades in split["relevant_docs"].items()
    } == {
        "q0": {"a": 1, "b": 1},
        "q1": {"c": 1},
    }
    assert all(names == sorted(names) for names in split["top_ranked"].values()), "the right one must not come first"


def test_labels_of_a_test_set_must_occur_in_the_training_set(write, tmp_path):
    train = write("train", [{"text": "a", "label": label} for label in "xy"])
    data = write("data", [{"text": "a", "label": label} for label in "xfedcba"])
    with pytest.raises(DataError, match="classification: labels without a training example: a, b, c, d, e$"):
        prepare(tmp_path, task="classification", train=train, data=data)
    with pytest.raises(DataError, match="classification: every label is 'x'; it takes two classes"):
        prepare(tmp_path, task="classification", train=write("train", [{"text": "a", "label": "x"}] * 2), data=data)


@pytest.mark.parametrize("labels", [("ham", "spam"), (3, 7)])
def test_two_classes_of_any_name_are_scored(write, tmp_path, labels):
    rows = [{"text": f"the {tiny.WORDS[i]}", "label": labels[i % 2]} for i in range(24)]
    section = write("two", rows) | {"path": str(tmp_path / "two.jsonl")}
    task = TypeAdapter(Task).validate_python({"task": "classification", "train": section, "data": section})
    encoder = zoo.from_pretrained(tiny.backbone(tmp_path / "backbone"))
    report = evaluation.evaluate(encoder, [task], baseline=False)
    assert 0.5 <= report["results"][0]["value"] <= 1


def test_a_pair_has_the_label_0_or_1(write, tmp_path):
    data = write("data", [PAIR | {"label": label} for label in (0, 1, 5, 4, 3, 2)])
    with pytest.raises(DataError, match="pair-classification: a pair's label is 0 or 1, not 2, 3, 4$"):
        prepare(tmp_path, task="pair-classification", data=data)
    data = write("data", [PAIR | {"label": label} for label in ("0", "1")])
    assert list(prepare(tmp_path, task="pair-classification", data=data)[1].dataset["test"]["labels"]) == [0, 1]


# -- measured tasks ----------------------------------------------------------------------------------------------------


def test_a_measured_task_needs_one_kind_of_input_in_every_part(write, tmp_path):
    vectors = write("data", [{"vector": [0.0, 1.0], "shape": "a"}] * 2)
    lock = {}
    ready = (
        TypeAdapter(Task)
        .validate_python({"task": "infomec", "data": vectors, "sources": ["shape"]})
        .prepare(tmp_path, lock)
    )
    assert (ready.modalities, ready.is_official, list(lock)) == (frozenset({"vector"}), False, ["infomec"])
    assert list(ready.tables) == ["data"]
    assert ready.measure == ready.spec.measure
    with pytest.raises(ZooError, match="mteb cannot run it"):
        ready.make()
    for rows in ([{"shape": "a"}], [{"text": "a", "vector": [0.0], "shape": "a"}]):
        section = TypeAdapter(Task).validate_python(
            {"task": "infomec", "data": write("data", rows), "sources": ["shape"]}
        )
        with pytest.raises(DataError, match="infomec: every part needs a column `text`"):
            section.prepare(tmp_path, {})
    texts, pictures = write("data", [{"text": "a", "label": "x"}]), write("train", PICTURES)
    section = TypeAdapter(Task).validate_python({"task": "recognition", "data": texts, "train": pictures})
    with pytest.raises(DataError, match="recognition: every part needs a column `text`"):
        section.prepare(tmp_path, {})


def test_an_image_of_a_corpus_and_its_text_are_one_document(write, tmp_path):
    data = write("data", [{"query": "dog", "document": "d"}, {"query_image": "0.png", "query": "cat", "document": "d"}])
    corpus = write("corpus", [{"text": "c", "image": "2.png"}, {"text": "", "image": ""}, {"text": "e", "image": ""}])
    _, mteb_task, _ = prepare(tmp_path, task="any-retrieval", data=data, corpus=corpus)
    split = mteb_task.dataset["default"]["test"]
    assert sorted(split["corpus"]["text"]) == ["c", "d", "e"]
    images = {row["text"]: row["image"] for row in split["corpus"]}
    assert np.asarray(images["c"]).max() == 160
    assert images["d"] is images["e"] is None
    assert [(row["text"], row["image"] is None) for row in split["queries"]] == [("dog", True), ("cat", False)]
    assert mteb_task.metadata.category == "it2it"
    buffer = io.BytesIO()
    images["c"].save(buffer, "PNG")
    assert buffer.getvalue()


@pytest.mark.parametrize(("row", "missing"), [({"document": "d"}, "query"), ({"query": "q"}, "document")])
def test_a_pair_without_a_side_is_named(write, tmp_path, row, missing):
    data = write("data", [{"query": "q", "document": "d"}, {"query": "", "document": "", **row}])
    with pytest.raises(DataError, match=f"any-retrieval: row 2 of .*jsonl has no {missing}, neither text nor image"):
        prepare(tmp_path, task="any-retrieval", data=data)


def test_a_task_of_an_official_class_keeps_its_way_of_scoring_under_its_own_name(write, tmp_path):
    class Parent:
        metadata = SimpleNamespace(eval_langs={"de": ["deu-Latn", "eng-Latn"], "en": ["eng-Latn"]})
        columns = attributes = None

    Parent.metadata.model_copy = lambda update: update
    described = mteb_build.MtebTask(Parent, "STS", "ap", columns={"columns": 3}, attributes={"attributes": 4})
    task = mteb_build.build("my name", "sts", described, {"test": [1]}, "c0ffee", Parent)
    assert task.metadata == {
        "name": "my name",
        "dataset": {"path": "local/my-name", "revision": "c0ffee"},
        "eval_splits": ["test"],
        "eval_langs": ["deu-Latn", "eng-Latn"],
    }
    assert (task.columns, task.attributes) == (3, None), "the columns are those of the rows"
    assert not task.data_loaded
    task.load_data()
    assert (task.dataset, task.data_loaded) == ({"test": [1]}, True)
    task.dataset = "cached"
    task.load_data()
    assert task.dataset == "cached", "a second load changes nothing"
    Parent.metadata.eval_langs = ["fra-Latn"]
    assert mteb_build.build("a", "sts", described, {}, "1", Parent).metadata["eval_langs"] == ["fra-Latn"]
    _, own, _ = prepare(tmp_path, task="sts", data=write("data", [PAIR | {"score": i} for i in range(2)]))
    assert own.metadata.description == "sts over the user's own data"
