"""Our number is mteb's own, for every task type; local data never claims to be official; nothing bad is scored."""

from __future__ import annotations

import json
import random

import mteb
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from pydantic import TypeAdapter
from sentence_transformers import SentenceTransformer

from zoo import evaluation
from zoo.errors import DataError, ZooError
from zoo.evaluation import official
from zoo.evaluation.spec import Task
from zoo.families.matryoshka_2d import Encoder, Spec

TEXTS = tiny.SENTENCES
PAIRS = [(a, f"{a} {TEXTS[i - 9].split()[0]}" if i % 3 else TEXTS[-i - 1]) for i, a in enumerate(TEXTS[:60])]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("evaluation") / "bert")


@pytest.fixture(scope="module")
def encoder(backbone):
    return Encoder.build(Spec(family="matryoshka-2d", backbone=backbone, dims=(8,)))


@pytest.fixture
def folder(tmp_path):
    def write(name, rows):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    write("sts", [{"sentence1": a, "sentence2": b, "score": i % 6} for i, (a, b) in enumerate(PAIRS)])
    write("pairs", [{"sentence1": a, "sentence2": b, "label": int(i % 3 > 0)} for i, (a, b) in enumerate(PAIRS)])
    write("train", [{"text": t, "label": t.split()[0]} for t in TEXTS])
    write("test", [{"text": f"{t} no", "label": t.split()[0]} for t in TEXTS[:50]])
    write("search", [{"query": a, "document": b} for a, b in PAIRS])
    write("rank", [{"query": a, "positive": [b], "negative": TEXTS[i : i + 5]} for i, (a, b) in enumerate(PAIRS)])
    return tmp_path


def task(**fields):
    for key in ("data", "train", "corpus"):
        if isinstance(fields.get(key), str):
            fields[key] = {"source": "file", "path": f"{fields[key]}.jsonl"}
    return TypeAdapter(Task).validate_python(fields)


def directly(parent, kind, main_score, data, backbone, **attributes):
    """mteb's own score for a plain sentence-transformers model, without anything of ours."""

    class Direct(parent):
        metadata = TaskMetadata(
            name="Direct",
            description="d",
            dataset={"path": "x/y", "revision": "1"},
            type=kind,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score=main_score,
        )

        def load_data(self, *_, **__):
            self.dataset, self.data_loaded = data, True

    for name, value in attributes.items():
        setattr(Direct, name, value)
    model = SentenceTransformer(backbone, device="cpu")
    found = mteb.evaluate(
        model, [Direct()], cache=None, overwrite_strategy="always", co2_tracker=False, show_progress_bar=False
    )
    return found.task_results[0].get_score()


def score(encoder, spec, folder):
    report = evaluation.evaluate(encoder, [spec], folder=folder, baseline=False)
    return report["results"][0]["value"]


def rows(folder, name):
    return Dataset.from_list([json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()])


def test_sts_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, task(task="sts", data="sts"), folder)
    theirs = directly(AbsTaskSTS, "STS", "cosine_spearman", DatasetDict(test=rows(folder, "sts")), backbone)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_pair_classification_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, task(task="pair-classification", data="pairs"), folder)
    data = DatasetDict(test=rows(folder, "pairs").rename_column("label", "labels"))
    assert ours == pytest.approx(
        directly(AbsTaskPairClassification, "PairClassification", "max_ap", data, backbone), abs=1e-6
    )


def test_classification_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, task(task="classification", train="train", data="test"), folder)
    data = DatasetDict(train=rows(folder, "train"), test=rows(folder, "test"))
    assert ours == pytest.approx(
        directly(AbsTaskClassification, "Classification", "accuracy", data, backbone), abs=1e-6
    )


def test_clustering_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, task(task="clustering", data="train"), folder)
    data = DatasetDict(test=rows(folder, "train").rename_columns({"text": "sentences", "label": "labels"}))
    theirs = directly(
        AbsTaskClustering, "Clustering", "v_measure", data, backbone, max_fraction_of_documents_to_embed=None
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


def _corpus(texts, queries, relevant, ranked):
    corpus = Dataset.from_dict({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    asked = Dataset.from_dict({"id": [f"q{i}" for i in range(len(queries))], "text": queries})
    return {"default": {"test": {"corpus": corpus, "queries": asked, "relevant_docs": relevant, "top_ranked": ranked}}}


def test_retrieval_equals_mteb(encoder, backbone, folder):
    (folder / "extra.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    ours = score(encoder, task(task="retrieval", data="search", corpus="extra"), folder)
    texts = list(dict.fromkeys([*TEXTS, *(b for _, b in PAIRS)]))
    queries = list(dict.fromkeys(a for a, _ in PAIRS))
    relevant = {}
    for a, b in PAIRS:
        relevant.setdefault(f"q{queries.index(a)}", {})[f"d{texts.index(b)}"] = 1
    theirs = directly(AbsTaskRetrieval, "Retrieval", "ndcg_at_10", _corpus(texts, queries, relevant, None), backbone)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_retrieval_by_ids_equals_retrieval_by_text(encoder, folder):
    texts, queries = list(dict.fromkeys(b for _, b in PAIRS)), list(dict.fromkeys(a for a, _ in PAIRS))
    for name, lines in (
        ("corpus", [{"id": i, "text": t} for i, t in enumerate(texts)]),
        ("queries", [{"id": i, "text": t} for i, t in enumerate(queries)]),
        ("qrels", [{"query_id": queries.index(a), "document_id": texts.index(b)} for a, b in PAIRS]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = {name: {"source": "file", "path": f"{name}.jsonl"} for name in ("corpus", "queries", "qrels")}
    by_id = score(encoder, TypeAdapter(Task).validate_python({"task": "retrieval", **parts}), folder)
    assert by_id == pytest.approx(score(encoder, task(task="retrieval", data="search"), folder), abs=1e-9)


def test_reranking_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, task(task="reranking", data="rank"), folder)
    given = rows(folder, "rank")
    texts = list(dict.fromkeys(t for r in given for t in [*r["positive"], *r["negative"]]))
    relevant = {f"q{i}": {f"d{texts.index(t)}": 1 for t in r["positive"]} for i, r in enumerate(given)}
    ranked = {
        f"q{i}": list(dict.fromkeys(f"d{texts.index(t)}" for t in [*r["positive"], *r["negative"]]))
        for i, r in enumerate(given)
    }
    data = _corpus(texts, list(given["query"]), relevant, ranked)
    assert ours == pytest.approx(directly(AbsTaskRetrieval, "Reranking", "map_at_1000", data, backbone), abs=1e-6)


def test_views_baselines_and_what_the_report_holds(encoder, folder, tmp_path):
    spec = task(task="sts", name="mine", data="sts", views=[{}, {"layers": 1, "dim": 8}], at_least=0.99)
    report = evaluation.evaluate(encoder, [spec], folder=folder, results_folder=tmp_path / "results")
    whole, cut = report["results"]
    assert whole["value"] == pytest.approx(whole["baseline"], abs=1e-6), "an untrained encoder is its own baseline"
    assert (whole["bytes_per_vector"], cut["bytes_per_vector"]) == (128, 32)
    assert cut["value"] == score(encoder.truncate(1, 8), task(task="sts", data="sts"), folder)
    assert not cut["official"]
    assert len(cut["data_revision"]) == 64
    assert {"seconds", "peak_memory_mb", "sentences_per_second"} <= set(cut)
    assert len(evaluation.missed(report)) == 2
    saved = json.loads((tmp_path / "results" / "mine__layers1-dim8.json").read_text())
    assert saved["task_name"] == "mine"
    json.dumps(report, allow_nan=False)


def test_an_official_name_over_local_files_says_so(encoder, folder, monkeypatch):
    (folder / "stsb").mkdir()
    (folder / "sts.jsonl").rename(folder / "stsb" / "test.jsonl")
    monkeypatch.setenv("ZOO_DATA", str(folder))
    report = evaluation.evaluate(encoder, [task(task="STSBenchmark")], baseline=False)
    assert report["results"][0]["task"] == "STSBenchmark (local)"
    assert not report["results"][0]["official"]
    assert report["results"][0]["data_revision"] != mteb.get_task("STSBenchmark").metadata.dataset["revision"]
    with pytest.raises(ZooError, match="holds no"):
        evaluation.evaluate(encoder, [task(task="STS12", folder=str(folder))])


def test_unknown_tasks_are_named_without_importing_mteb():
    assert official.problem("STSBenchmark") is None
    assert "did you mean STSBenchmark" in official.problem("STSBenchmrk")


def test_vectors_that_are_not_finite_are_an_error(encoder, folder):
    import copy

    broken = copy.copy(encoder)
    broken.encode = lambda inputs, **_: np.full((len(list(inputs)), 32), np.nan, dtype=np.float32)
    broken.view = lambda **_: broken
    with pytest.raises(ZooError, match="not finite"):
        evaluation.evaluate(broken, [task(task="retrieval", data="search")], folder=folder, baseline=False)


def test_labels_that_cannot_be(encoder, folder):
    (folder / "odd.jsonl").write_text(json.dumps({"text": "the dog", "label": "unheard"}) + "\n")
    with pytest.raises(DataError, match="unheard"):
        evaluation.prepare([task(task="classification", train="train", data="odd")], folder)
    (folder / "odd.jsonl").write_text(json.dumps({"sentence1": "a", "sentence2": "b", "label": 3}) + "\n")
    with pytest.raises(DataError, match="0 or 1"):
        evaluation.prepare([task(task="pair-classification", data="odd")], folder)


def test_the_callers_random_state_is_his_own(encoder, folder):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    evaluation.evaluate(encoder, [task(task="clustering", data="train")], folder=folder, baseline=False)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
