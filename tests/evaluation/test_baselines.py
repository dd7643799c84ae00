"""Free baselines are scored by the same tasks; every task of rows or queries gives outcomes whose statistic is its score."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from pydantic import TypeAdapter
from sklearn.feature_extraction.text import TfidfVectorizer

from zoo import evaluation
from zoo.core.errors import ZooError
from zoo.evaluation import baselines, scoring
from zoo.evaluation.baselines.baseline import Baseline, BaselineScore, TrainingRows
from zoo.evaluation.prepare import prepare
from zoo.evaluation.spec import Task
from zoo.spec import FREE_BASELINES, EncoderSpec

WORDS = {"cat": "purr fur paw whisker", "car": "wheel engine road brake", "sea": "wave salt tide shore"}


def make_texts(count, seed):
    """Texts of three topics, each of four words of its topic and two of any."""
    draw = np.random.default_rng(seed)
    every = " ".join(WORDS.values()).split()
    rows = []
    for number in range(count):
        topic = sorted(WORDS)[number % 3]
        words = [*draw.choice(WORDS[topic].split(), 4), *draw.choice(every, 2)]
        rows.append({"text": " ".join(words), "label": topic})
    return rows


@pytest.fixture
def folder(tmp_path):
    train, test = make_texts(90, 1), make_texts(45, 2)
    pairs = [
        {"sentence1": a["text"], "sentence2": b["text"], "score": float(a["label"] == b["label"]) + i % 2 / 4}
        for i, (a, b) in enumerate(zip(test, test[1:] + test[:2], strict=False))
    ]
    tables = {
        "train": train,
        "test": test,
        "pairs": pairs,
        "labelled": [{**row, "label": int(row["score"] >= 1), "score": None} for row in pairs] or [],
        "search": [{"query": a["text"].split()[0], "document": a["text"]} for a in test],
        "rank": [{"query": a["text"].split()[0], "positive": [a["text"]], "negative": [b["text"] for b in test[i + 1 : i + 9]]}
                 for i, a in enumerate(test[:20])],
    }  # fmt: skip
    tables["labelled"][0]["label"] = 1
    for name, rows in tables.items():
        lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


TASKS = {
    "classification": {"data": "test", "train": "train"},
    "clustering": {"data": "test"},
    "zero-shot": {"data": "test"},
    "sts": {"data": "pairs"},
    "pair-classification": {"data": "labelled"},
    "retrieval": {"data": "search"},
    "reranking": {"data": "rank"},
}


def prepare_tasks(folder, *names):
    entries = []
    for name in names or TASKS:
        parts = {part: {"source": "file", "path": f"{file}.jsonl"} for part, file in TASKS[name].items()}
        entries.append(TypeAdapter(Task).validate_python({"task": name, **parts}))
    return prepare(entries, folder).tasks


class Texts(EncoderSpec):
    family: str = "texts"

    def roles(self):
        return {"text": "text"}, {}


ENCODER = SimpleNamespace(spec=Texts())


def measure(folder, *names, level="cheap", rows=None):
    train = Dataset.from_list(make_texts(90, 1)) if rows is None else rows
    return baselines.measure(ENCODER, prepare_tasks(folder, *names), train, level)


@pytest.mark.parametrize("name", TASKS)
def test_the_outcomes_of_a_task_have_its_score_as_their_statistic(name, folder):
    (task,) = prepare_tasks(folder, name)
    baseline = baselines.load("lsa")(TrainingRows(ENCODER, Dataset.from_list(make_texts(90, 1))))
    run = scoring.run_mteb(baseline.model, task)
    assert run.outcomes is not None
    assert run.outcomes.compute_score() == pytest.approx(run.value, abs=1e-4)
    assert len(run.outcomes.values) == {"clustering": 10, "retrieval": 12, "reranking": 20}.get(name, 45)


def test_every_task_has_its_baselines_and_words_find_the_topics(folder):
    scores = measure(folder)
    lsa = "LSA of 256 components"
    names = {task: [entry.name for entry in entries] for task, entries in scores.items()}
    assert names == {
        "classification": ["chance", "the most frequent class", "TF-IDF", lsa],
        "clustering": [lsa],
        "zero-shot": ["chance", "TF-IDF", lsa],
        "sts": ["TF-IDF", lsa],
        "pair-classification": ["chance", "TF-IDF", lsa],
        "retrieval": [lsa, "BM25"],
        "reranking": [lsa, "BM25"],
    }
    values = {task: {entry.name: entry.value for entry in entries} for task, entries in scores.items()}
    assert values["classification"]["chance"] == pytest.approx(1 / 3)
    assert values["classification"]["the most frequent class"] == pytest.approx(1 / 3)
    assert values["classification"]["TF-IDF"] > 0.8
    assert values["retrieval"]["BM25"] > 0.3
    assert all(entry.seconds > 0 or entry.name == "chance" for entries in scores.values() for entry in entries)


def test_tf_idf_is_that_of_scikit_learn(folder):
    (task,) = prepare_tasks(folder, "sts")
    train = [row["text"] for row in make_texts(90, 1)]
    (entry,) = baselines.load("tfidf")(TrainingRows(ENCODER, Dataset.from_dict({"text": train}))).score(task)
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(train)
    left, right = (vectorizer.transform(task.tables["data"].rows[name]) for name in ("sentence1", "sentence2"))
    np.testing.assert_allclose(entry.outcomes.values[:, 0], np.asarray(left.multiply(right).sum(1)).ravel(), atol=1e-6)


def test_bm25_ranks_candidates_that_are_not_among_the_best_of_all_documents(folder):
    """With more than a thousand better documents, mteb's own baseline leaves the candidates of a query without a score."""
    rows = [{"query": "purr", "positive": ["purr and a great many other words"], "negative": ["nothing to see"]}]
    rows += [{"query": "wheel", "positive": [f"purr {n}"], "negative": [f"purr purr {n}"]} for n in range(600)]
    (folder / "rank.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (task,) = prepare_tasks(folder, "reranking")
    (entry,) = baselines.load("bm25")(TrainingRows(ENCODER, None)).score(task)
    assert max(entry.outcomes.values) == 1


def test_without_training_rows_only_what_learns_nothing_is_scored(folder):
    scores = baselines.measure(ENCODER, prepare_tasks(folder, "classification", "retrieval"), None, "cheap")
    names = [entry.name for entries in scores.values() for entry in entries]
    assert names == ["chance", "the most frequent class", "BM25"]
    assert not any(measure(folder, level="none").values())


def test_texts_without_words_give_a_reason_and_no_error(folder):
    scores = measure(folder, "sts", rows=Dataset.from_dict({"text": ["!", "?"]}))
    for entry in scores["sts"]:
        assert entry.value is None
        assert entry.reason
        assert entry.as_json()["reason"] == entry.reason


class Dear(Baseline):
    """A family's own baseline, with two scores."""

    name, is_cheap = "dear", False

    def suits(self, task):
        return task.name == "sts"

    def score(self, task):
        return [BaselineScore("first", 0.25), BaselineScore("second", 0.5)]


def test_a_familys_own_baseline_is_found_in_its_folder_and_dear_ones_are_scored_if_all_are_wanted(folder, monkeypatch):
    monkeypatch.setattr(Texts, "free_baselines", ("own:Dear",))
    monkeypatch.setattr(
        Texts, "load_family_attribute", classmethod(lambda cls, reference: {"own:Dear": Dear}[reference])
    )
    assert not measure(folder, "sts")["sts"]
    assert [entry.name for entry in measure(folder, "sts", level="full")["sts"]] == ["first", "second"]


def test_baselines_learn_from_all_texts_of_the_training_rows_but_not_from_too_many(monkeypatch):
    class Pairs(Texts):
        def roles(self):
            return {"anchor": "text", "positive": "text", "negative": "texts"}, {"score": "number", "title": "caption"}

    rows = Dataset.from_dict(
        {
            "anchor": ["a", "b"],
            "positive": ["c", "d"],
            "negative": [["e", "f"], ["g"]],
            "title": ["", None],
            "note": ["n", "m"],
        }
    )
    training = TrainingRows(SimpleNamespace(spec=Pairs()), rows)
    assert training.texts == ["a", "b", "c", "d", "e", "f", "g"]
    monkeypatch.setattr("zoo.evaluation.baselines.baseline.MAX_TEXTS", 4)
    few = TrainingRows(SimpleNamespace(spec=Pairs()), rows).texts
    assert len(few) < 7


@pytest.mark.parametrize("name", FREE_BASELINES)
def test_a_baseline_has_a_name_and_says_what_it_is(name):
    baseline = baselines.load(name)
    assert baseline.name
    assert baseline.__doc__


def test_a_report_has_the_baselines_and_a_verdict(folder):
    class Random:
        modalities, name, revision, bytes_per_vector, dim = ("text",), "random", "r", 8, 2
        view_options, has_roles, similarity_fn_name, accepts_mixed_inputs = {}, False, "cosine", False
        searches_by_tokens = False
        spec, folder = Texts(), Path()

        def view(self, **options):
            return self

        def baseline(self):
            return None

        def encode(self, texts, **options):
            return np.random.default_rng(0).normal(size=(len(texts), 2)).astype(np.float32)

        def as_float_vectors(self, vectors):
            return vectors

    tasks = evaluation.Prepared(prepare_tasks(folder, "retrieval"))
    report = evaluation.evaluate(Random(), tasks, training_rows=Dataset.from_list(make_texts(90, 1)))
    (result,) = report["results"]
    assert [entry["name"] for entry in report["free_baselines"]["retrieval"]] == ["LSA of 256 components", "BM25"]
    assert result["verdict"]["outcome"] == "worse"
    assert result["verdict"]["sentence"].startswith("WORSE than ")
    assert "90 training rows, texts have 6 words in the median" in result["verdict"]["sentence"]


def test_a_score_as_json_has_what_is_there_and_leaves_out_what_is_not():
    assert BaselineScore("b", 0.5, seconds=1.5).as_json() == {"name": "b", "value": 0.5, "seconds": 1.5}
    entry = BaselineScore("b", None, reason="no words", bytes_per_vector=16, figures={"ood_auroc": 0.9}).as_json()
    more = {"reason": "no words", "bytes_per_vector": 16, "figures": {"ood_auroc": 0.9}}
    assert entry == {"name": "b", "value": None, "seconds": 0.0, **more}


def test_mteb_knows_a_baseline_by_name_kind_of_input_and_similarity():
    model = baselines.load("pixels")(TrainingRows(ENCODER, None)).model
    meta = model.mteb_model_meta
    assert (meta.name, meta.revision, meta.modalities) == ("zoo/pixels", "baseline", ["image"])
    assert meta.similarity_fn_name.value == "cosine"


def test_a_column_that_a_baseline_does_not_read_is_named():
    model = baselines.load("pixels")(TrainingRows(ENCODER, None)).model
    with pytest.raises(ZooError, match="an input holds no image"):
        model.encode([{"text": ["a"]}])
