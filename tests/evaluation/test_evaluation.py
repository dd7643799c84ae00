"""Scores equal those of mteb for every task type, local data is never called official, and bad data is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

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

import zoo
from zoo import evaluation
from zoo.core.errors import DataError, DataWarning, ZooError
from zoo.encoder import Encoder as Base
from zoo.evaluation import mteb_catalogue, official
from zoo.evaluation.mteb_model import MtebModel
from zoo.evaluation.spec import Task
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec

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


def make_task(**fields):
    for key in ("data", "train", "corpus", "queries", "qrels"):
        if isinstance(fields.get(key), str):
            fields[key] = {"source": "file", "path": f"{fields[key]}.jsonl"}
    return TypeAdapter(Task).validate_python(fields)


def score_with_mteb(parent, kind, main_score, data, backbone, **attributes):
    """Return mteb's own score of a plain sentence-transformers model, without any code of zoo."""

    class PlainTask(parent):
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
        setattr(PlainTask, name, value)
    model = SentenceTransformer(backbone, device="cpu")
    evaluated = mteb.evaluate(
        model, [PlainTask()], cache=None, overwrite_strategy="always", co2_tracker=False, show_progress_bar=False
    )
    return evaluated.task_results[0].get_score()


class WordVectors(Base):
    """An encoder whose vectors are sums of a fixed random vector per word: floats, their signs, or packed bits."""

    modalities = ("text",)
    has_roles = True
    dim = 60  # not a multiple of 8: the last byte is padded

    def __init__(self, form, modalities=("text",)):
        super().__init__()
        self.form, self.modalities = form, modalities
        self.similarity_fn_name = "hamming" if form == "packed" else "cosine"
        self.spec = Spec(family="matryoshka-2d", backbone="none")
        self.prompts = []

    def encode(self, inputs, *, show_progress_bar=False, precision="auto", prompt_type=None):
        self.prompts.append(prompt_type)
        rng = np.random.default_rng(0)
        table = {word: rng.standard_normal(self.dim) for word in tiny.WORDS}
        sums = np.stack([sum(table[word] for word in text.split()) for text in inputs]).astype(np.float32)
        if self.form == "packed":
            return np.packbits(sums > 0, axis=1)
        if self.form == "floats":
            return sums
        signs = np.where(sums > 0, 1, -1).astype(np.float32)
        return signs if self.form == "signs" else np.pad(signs, ((0, 0), (0, 4)), constant_values=1)

    def view(self, **options):
        return self


def score(encoder, spec, folder):
    report = evaluation.evaluate(encoder, [spec], folder=folder, baseline=False)
    return report["results"][0]["value"]


def read_rows(folder, name):
    return Dataset.from_list([json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()])


def test_sts_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, make_task(task="sts", data="sts"), folder)
    theirs = score_with_mteb(AbsTaskSTS, "STS", "cosine_spearman", DatasetDict(test=read_rows(folder, "sts")), backbone)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_pair_classification_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, make_task(task="pair-classification", data="pairs"), folder)
    data = DatasetDict(test=read_rows(folder, "pairs").rename_column("label", "labels"))
    assert ours == pytest.approx(
        score_with_mteb(AbsTaskPairClassification, "PairClassification", "max_ap", data, backbone), abs=1e-6
    )


def test_classification_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, make_task(task="classification", train="train", data="test"), folder)
    data = DatasetDict(train=read_rows(folder, "train"), test=read_rows(folder, "test"))
    assert ours == pytest.approx(
        score_with_mteb(AbsTaskClassification, "Classification", "accuracy", data, backbone), abs=1e-6
    )


def test_test_labels_take_the_type_of_the_training_labels(folder):
    """A class `other` that only the training rows have makes their labels strings, but leaves the test labels integers."""
    rows = [{"text": "a", "label": "other"}, {"text": "b", "label": 7}, {"text": "d", "label": 8}]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "test.jsonl").write_text('{"text": "c", "label": 7}\n')
    task = make_task(task="classification", train="train", data="test")
    splits = task.shape(task.read_tables(folder))
    assert splits["train"]["label"] == ["other", "7", "8"]
    assert splits["test"]["label"] == ["7"]


def test_clustering_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, make_task(task="clustering", data="train"), folder)
    data = DatasetDict(test=read_rows(folder, "train").rename_columns({"text": "sentences", "label": "labels"}))
    theirs = score_with_mteb(
        AbsTaskClustering, "Clustering", "v_measure", data, backbone, max_fraction_of_documents_to_embed=None
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_zero_shot_is_the_accuracy_of_the_nearest_class_name(encoder, folder):
    ours = score(encoder, make_task(task="zero-shot", data="train"), folder)
    table = read_rows(folder, "train")
    names = sorted({str(label) for label in table["label"]})
    nearest = (encoder.encode(table["text"]) @ encoder.encode(names).T).argmax(1)
    is_right = [names[i] == str(label) for i, label in zip(nearest, table["label"], strict=True)]
    assert 0 < sum(is_right) < len(is_right)
    assert ours == pytest.approx(sum(is_right) / len(is_right), abs=1e-6)


def make_corpus(texts, queries, relevant, ranked):
    corpus = Dataset.from_dict({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    query_table = Dataset.from_dict({"id": [f"q{i}" for i in range(len(queries))], "text": queries})
    return {
        "default": {"test": {"corpus": corpus, "queries": query_table, "relevant_docs": relevant, "top_ranked": ranked}}
    }


def test_retrieval_equals_mteb(encoder, backbone, folder):
    (folder / "extra.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    ours = score(encoder, make_task(task="retrieval", data="search", corpus="extra"), folder)
    texts = list(dict.fromkeys([*TEXTS, *(b for _, b in PAIRS)]))
    queries = list(dict.fromkeys(a for a, _ in PAIRS))
    relevant = {}
    for a, b in PAIRS:
        relevant.setdefault(f"q{queries.index(a)}", {})[f"d{texts.index(b)}"] = 1
    theirs = score_with_mteb(
        AbsTaskRetrieval, "Retrieval", "ndcg_at_10", make_corpus(texts, queries, relevant, None), backbone
    )
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
    assert by_id == pytest.approx(score(encoder, make_task(task="retrieval", data="search"), folder), abs=1e-9)


def write_beir_folder(place, layout="beir"):
    """Write the pairs as a folder of BEIR, or as one of mteb on the Hub."""
    documents = {b: f"d{i}" for i, b in enumerate(dict.fromkeys(b for _, b in PAIRS))}
    queries = {a: f"q{i}" for i, a in enumerate(dict.fromkeys(a for a, _ in PAIRS))}
    corpus = [{"_id": name, "title": "", "text": text} for text, name in documents.items()]
    asked = [{"_id": name, "text": text} for text, name in queries.items()]
    qrels = [{"query-id": queries[a], "corpus-id": documents[b], "score": 1} for a, b in PAIRS]
    place.mkdir(parents=True)
    if layout == "beir":
        (place / "qrels").mkdir()
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row.values())) for row in qrels)]
        (place / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
        for name, rows in (("corpus", corpus), ("queries", asked)):
            (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    top_ranked = [{"query-id": name, "corpus-ids": sorted(documents.values())} for name in queries.values()]
    for name, rows in (("corpus", corpus), ("queries", asked), ("data", qrels), ("top_ranked", top_ranked)):
        (place / name).mkdir()
        half = len(rows) // 2
        for part, some_rows in enumerate((rows[:half], rows[half:])):
            Dataset.from_list(some_rows).to_parquet(place / name / f"test-0000{part}-of-00002.parquet")


@pytest.mark.parametrize("layout", ["beir", "mteb"])
def test_a_folder_of_beir_or_mteb_works_by_its_name_alone(encoder, folder, layout):
    write_beir_folder(folder / "mine", layout)
    expected = score(encoder, make_task(task="retrieval", data="search"), folder)
    assert score(encoder, make_task(task="retrieval", folder="mine"), folder) == pytest.approx(expected, abs=1e-6)
    reranked = score(encoder, make_task(task="reranking", folder="mine"), folder)
    assert 0 < reranked < 1 if layout == "mteb" else reranked == 1  # without candidates, only right answers are judged


def test_an_official_retrieval_task_runs_on_a_folder_of_beir(encoder, folder):
    write_beir_folder(folder / "scifact")
    expected = score(encoder, make_task(task="retrieval", data="search"), folder)
    for place in (".", "scifact"):
        report = evaluation.evaluate(encoder, [make_task(task="SciFact", folder=place)], folder=folder, baseline=False)
        (result,) = report["results"]
        assert (result["task"], result["official"], result["metric"]) == ("SciFact (local)", False, "ndcg_at_10")
        assert result["value"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ZooError, match="holds no corpus, queries and qrels in the layout of BEIR or mteb"):
        evaluation.prepare([make_task(task="NFCorpus", folder=".")], folder)


def test_a_folder_that_lacks_a_part_and_a_corpus_without_ids_are_found_by_the_check(folder):
    task = make_task(task="retrieval", folder="mine")
    assert task.find_mistakes(folder)[0][0] == ("folder",)
    write_beir_folder(folder / "mine")
    assert task.find_mistakes(folder) == []
    (folder / "mine" / "corpus.jsonl").write_text('{"text": "the dog"}\n')
    [(path, message)] = task.find_mistakes(folder)
    assert path == ("corpus", "columns")
    assert "needs a column 'id'" in message
    (folder / "mine" / "queries.jsonl").unlink()
    [(path, message)] = task.find_mistakes(folder)
    assert (path, "holds no queries.*" in message) == (("folder",), True)
    (folder / "corpus.jsonl").write_text('{"text": "the dog"}\n')
    for name, row in (("queries", {"id": "q", "text": "dog"}), ("qrels", {"query_id": "q", "document_id": "d"})):
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    mistakes = make_task(task="retrieval", queries="queries", corpus="corpus", qrels="qrels").find_mistakes(folder)
    assert [path for path, _ in mistakes] == [("corpus", "columns")]


def test_titles_and_texts_of_a_corpus_may_be_empty(encoder, folder):
    corpus = [{"id": "d1", "title": "", "text": "the dog"}, {"id": "d2", "title": "the cat", "text": ""}]
    without_titles = [{"id": "d1", "text": "the dog"}, {"id": "d2", "text": "the cat"}]
    queries, qrels = [{"id": "q", "text": "dog"}], [{"query_id": "q", "document_id": "d1"}]
    scores = []
    for rows in (corpus, without_titles):
        for name, content in (("corpus", rows), ("queries", queries), ("qrels", qrels)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        task = make_task(task="retrieval", queries="queries", corpus="corpus", qrels="qrels")
        scores.append(score(encoder, task, folder))
    assert scores[0] == scores[1]


def test_a_score_that_says_nothing_is_remarked_on(folder):
    """All texts have the same vector, so that the answer is chance."""

    class Constant(WordVectors):
        def encode(self, inputs, **options):
            return np.ones((len(list(inputs)), self.dim), dtype=np.float32)

    task = make_task(task="classification", train="train", data="test")
    with pytest.warns(DataWarning, match="classification: accuracy is .*, and chance is .*; check what each column"):
        report = evaluation.evaluate(Constant("floats"), [task], folder=folder, baseline=False)
    assert report["results"][0]["remark"].startswith("accuracy is")
    report = evaluation.evaluate(WordVectors("floats"), [task], folder=folder, baseline=False)
    assert "remark" not in report["results"][0]


def test_retrieval_with_a_backbones_prompts_equals_mteb(backbone, folder, tmp_path):
    path = str(tmp_path / "prompted")
    prompts = {"query": "the man ", "document": "a red "}
    SentenceTransformer(backbone, device="cpu", prompts=prompts).save_pretrained(path, create_model_card=False)
    ours, bare = (
        score(
            Encoder.build(Spec(family="matryoshka-2d", backbone=b)), make_task(task="retrieval", data="search"), folder
        )
        for b in (path, backbone)
    )
    documents, queries = list(dict.fromkeys(b for _, b in PAIRS)), list(dict.fromkeys(a for a, _ in PAIRS))
    relevant = {}
    for a, b in PAIRS:
        relevant.setdefault(f"q{queries.index(a)}", {})[f"d{documents.index(b)}"] = 1
    data = make_corpus(documents, queries, relevant, None)
    theirs = score_with_mteb(AbsTaskRetrieval, "Retrieval", "ndcg_at_10", data, path)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert ours != pytest.approx(bare, abs=1e-6)


def test_reranking_equals_mteb(encoder, backbone, folder):
    ours = score(encoder, make_task(task="reranking", data="rank"), folder)
    table = read_rows(folder, "rank")
    texts = list(dict.fromkeys(t for r in table for t in [*r["positive"], *r["negative"]]))
    relevant = {f"q{i}": {f"d{texts.index(t)}": 1 for t in r["positive"]} for i, r in enumerate(table)}
    ranked = {
        f"q{i}": list(dict.fromkeys(f"d{texts.index(t)}" for t in [*r["positive"], *r["negative"]]))
        for i, r in enumerate(table)
    }
    data = make_corpus(texts, list(table["query"]), relevant, ranked)
    assert ours == pytest.approx(
        score_with_mteb(AbsTaskRetrieval, "Reranking", "map_at_1000", data, backbone), abs=1e-6
    )


def test_the_report_has_scores_baselines_and_costs_of_every_view(encoder, folder, tmp_path):
    spec = make_task(task="sts", name="mine", data="sts", views=[{}, {"layers": 1, "dim": 8}], at_least=0.99)
    report = evaluation.evaluate(encoder, [spec], folder=folder, results_folder=tmp_path / "results")
    whole, cut = report["results"]
    assert whole["value"] == pytest.approx(whole["baseline"], abs=1e-6), "an untrained encoder is its own baseline"
    assert (whole["bytes_per_vector"], cut["bytes_per_vector"]) == (128, 32)
    assert cut["value"] == score(encoder.truncate(1, 8), make_task(task="sts", data="sts"), folder)
    assert not cut["official"]
    assert len(cut["data_revision"]) == 64
    assert {"seconds", "peak_memory_mb", "sentences_per_second"} <= set(cut)
    assert len(evaluation.list_missed(report)) == 2
    saved = json.loads((tmp_path / "results" / "mine__layers1-dim8.json").read_text())
    assert saved["task_name"] == "mine"
    json.dumps(report, allow_nan=False)


def test_an_official_task_on_local_files_is_marked_as_local(encoder, folder, monkeypatch):
    (folder / "stsb").mkdir()
    (folder / "sts.jsonl").rename(folder / "stsb" / "test.jsonl")
    monkeypatch.setenv("ZOO_DATA", str(folder))
    report = evaluation.evaluate(
        encoder,
        [make_task(task="STSBenchmark", name="STSBenchmark")],
        baseline=False,
        results_folder=folder / "results",
    )
    assert report["results"][0]["task"] == "STSBenchmark (local)", "even when the recipe calls it by the official name"
    assert not report["results"][0]["official"]
    assert report["results"][0]["data_revision"] != mteb.get_task("STSBenchmark").metadata.dataset["revision"]
    saved = json.loads((folder / "results" / "STSBenchmark-local__whole.json").read_text())
    assert saved["task_name"] == "STSBenchmark (local)"
    assert saved["dataset_revision"] == report["results"][0]["data_revision"]
    with pytest.raises(ZooError, match="holds no"):
        evaluation.evaluate(encoder, [make_task(task="STS12", folder=str(folder))])


def test_a_local_copy_is_scored_by_the_official_task_class(encoder, backbone, folder):
    task_folder = folder / "EmotionClassification"
    task_folder.mkdir()
    for name, texts in (("train", TEXTS), ("test", [f"{text} no" for text in TEXTS])):
        lines = [{"text": text, "label": int(tiny.WORDS.index(text.split()[0]) > 20)} for text in texts]
        (task_folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ours = score(encoder, make_task(task="EmotionClassification", folder=str(folder)), folder)
    data = DatasetDict(train=read_rows(task_folder, "train"), test=read_rows(task_folder, "test"))
    theirs = {
        n: score_with_mteb(AbsTaskClassification, "Classification", "accuracy", data, backbone, samples_per_label=n)
        for n in (8, 16)
    }
    assert mteb.get_task("EmotionClassification").samples_per_label == 16
    assert ours == pytest.approx(theirs[16], abs=1e-6) != theirs[8]


def test_a_local_folder_that_does_not_fit_the_task_is_refused(folder):
    with pytest.raises(ZooError, match="not a plain table"):
        evaluation.prepare([make_task(task="TwentyNewsgroupsClustering", folder=".")], folder)
    (folder / "STS16").mkdir()
    for ending in ("jsonl", "csv"):
        (folder / "STS16" / f"test.{ending}").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n')
    with pytest.raises(ZooError, match=r"test.csv and test.jsonl; keep one"):
        evaluation.prepare([make_task(task="STS16", folder=".")], folder)


def test_a_relative_folder_starts_at_the_folder_of_the_recipe(folder, monkeypatch):
    (folder / "in" / "STS16").mkdir(parents=True)
    (folder / "sts.jsonl").rename(folder / "in" / "STS16" / "test.jsonl")
    monkeypatch.chdir(folder.parent)
    assert (
        evaluation.prepare([make_task(task="STS16", folder="in")], Path(folder.name)).lock["STS16 (local)"]["rows"]
        == 60
    )


def test_official_data_is_read_before_training_and_its_revision_is_pinned(encoder, folder, monkeypatch):
    data = DatasetDict(test=read_rows(folder, "sts"))
    known = mteb.get_task("STSBenchmark")

    def unreachable(self, *_, **__):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(type(known), "load_data", unreachable)
    with pytest.raises(ZooError, match="STSBenchmark: its data cannot be had.*ZOO_DATA"):
        evaluation.prepare([make_task(task="STSBenchmark")])
    monkeypatch.setattr(
        type(known), "load_data", lambda self, *_, **__: self.__dict__.update(dataset=data, data_loaded=True)
    )
    prepared = evaluation.prepare([make_task(task="STSBenchmark")])
    (result,) = evaluation.evaluate(encoder, prepared, baseline=False)["results"]
    pinned = known.metadata.dataset["revision"]
    assert (result["task"], result["official"], result["data_revision"]) == ("STSBenchmark", True, pinned)
    assert result["value"] == pytest.approx(score(encoder, make_task(task="sts", data="sts"), folder), abs=1e-9)
    assert prepared.lock["STSBenchmark"]["rows"] == 60
    assert prepared.lock["STSBenchmark"]["origin"]["revision"] == pinned


def test_an_unknown_task_is_named_and_every_task_of_mteb_is_known(monkeypatch):
    assert official.find_problem("STSBenchmark") is None
    assert official.find_problem("CQADupstackRetrieval") is None, "a task without a statistics file"
    assert "did you mean STSBenchmark" in official.find_problem("STSBenchmrk")
    names = {known.metadata.name for known in mteb.get_tasks(exclude_superseded=False)}
    assert [name for name in names if official.find_problem(name)] == [], (
        "what mteb knows is known without importing it"
    )
    monkeypatch.setattr(mteb_catalogue, "list_names", lambda: frozenset({"Gone"}))
    with pytest.raises(ZooError, match="'Gone'"):
        evaluation.prepare([make_task(task="Gone")])


def test_a_known_name_is_checked_without_importing_mteb():
    code = (
        "import sys; from zoo.evaluation import official; assert not official.find_problem('STS12'); "
        "print('mteb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_two_tasks_may_not_have_the_same_name(folder):
    with pytest.raises(ZooError, match="two tasks are called 'sts'"):
        evaluation.prepare([make_task(task="sts", data="sts"), make_task(task="sts", data="sts", at_least=0.5)], folder)
    misnamed = make_task(task="sts", data="sts", name="STSBenchmark")
    assert misnamed.find_mistakes(folder)[0][0] == ("name",)
    with pytest.raises(ZooError, match="official"):
        evaluation.prepare([misnamed], folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "sts", "data": "sts"},
        {"task": "pair-classification", "data": "pairs"},
        {"task": "classification", "train": "train", "data": "test"},
        {"task": "clustering", "data": "train"},
        {"task": "retrieval", "data": "search"},
        {"task": "reranking", "data": "rank"},
    ],
    ids=lambda fields: fields["task"],
)
def test_packed_codes_score_like_vectors_of_their_signs(folder, fields):
    """The cosine of vectors of -1 and 1 falls with their Hamming distance, so it is the oracle for codes. For rankings it has
    four ones more and therefore length 8, so that equal distances are equal cosines on every processor."""
    packed, signs = (
        WordVectors("packed"),
        WordVectors("padded" if fields["task"] in ("retrieval", "reranking") else "signs"),
    )
    assert score(packed, make_task(**fields), folder) == pytest.approx(
        score(signs, make_task(**fields), folder), abs=1e-6
    )


def test_hamming_similarities_are_the_same_packed_and_as_signs():
    packed, signs = (WordVectors(form).encode(TEXTS) for form in ("packed", "signs"))
    adapter = MtebModel(WordVectors("packed"), "fp32")
    expected = -(signs[:, None] != signs[None]).sum(axis=2).astype(np.float32)
    for vectors in (packed, signs):
        assert np.array_equal(adapter.similarity(vectors, vectors).numpy(), expected)
        pairs = adapter.similarity_pairwise(vectors, vectors[::-1].copy()).numpy()
        assert np.array_equal(pairs, np.diag(expected[:, ::-1]))


def test_searches_pass_the_prompt_type_to_the_encoder(folder):
    encoder = WordVectors("floats")
    evaluation.evaluate(encoder, [make_task(task="retrieval", data="search")], folder=folder, baseline=False)
    evaluation.evaluate(encoder, [make_task(task="sts", data="sts")], folder=folder, baseline=False)
    assert encoder.prompts == ["query", "document", None, None]


def test_inputs_that_the_encoder_does_not_read_are_an_error(folder):
    with pytest.raises(ZooError, match="holds text, which encoder does not read"):
        evaluation.evaluate(
            WordVectors("floats", ("image",)), [make_task(task="sts", data="sts")], folder=folder, baseline=False
        )
    known = mteb.get_task("STSBenchmark").metadata
    for modalities, batch in ((("text",), {"image": [0]}), (("text", "image"), {"image": [0], "text": ["the"]})):
        with pytest.raises(ZooError, match="an input holds"):
            MtebModel(WordVectors("floats", modalities), "fp32").encode(
                [batch], task_metadata=known, hf_split="test", hf_subset="default"
            )


def test_a_class_with_the_label_minus_one_is_counted(encoder, folder):
    """mteb drops the rows of a numeric class -1. One class would be left, and every clustering would be perfect."""
    values = []
    for name, low in (("signed", -1), ("binary", 0)):
        lines = [{"text": text, "label": (1, low)[i % 2]} for i, text in enumerate(TEXTS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        values.append(score(encoder, make_task(task="clustering", data=name), folder))
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_vectors_that_are_not_finite_are_an_error(encoder, folder):
    import copy

    broken = copy.copy(encoder)
    broken.encode = lambda inputs, **_: np.full((len(list(inputs)), 32), np.nan, dtype=np.float32)
    broken.view = lambda **_: broken
    with pytest.raises(ZooError, match="not finite"):
        evaluation.evaluate(broken, [make_task(task="retrieval", data="search")], folder=folder, baseline=False)


def test_labels_outside_the_classes_are_an_error(encoder, folder):
    (folder / "odd.jsonl").write_text(json.dumps({"text": "the dog", "label": "unheard"}) + "\n")
    with pytest.raises(DataError, match="unheard"):
        evaluation.prepare([make_task(task="classification", train="train", data="odd")], folder)
    (folder / "odd.jsonl").write_text(json.dumps({"sentence1": "a", "sentence2": "b", "label": 3}) + "\n")
    with pytest.raises(DataError, match="0 or 1"):
        evaluation.prepare([make_task(task="pair-classification", data="odd")], folder)


PAIR = {"sentence1": "the dog", "sentence2": "the cat"}


@pytest.mark.parametrize(
    ("fields", "lines", "message"),
    [
        ({"task": "sts"}, [PAIR | {"score": 2}] * 3, "same score"),
        ({"task": "pair-classification"}, [PAIR | {"label": 1}] * 3, "two classes"),
        ({"task": "clustering"}, [{"text": "the dog", "label": "x"}] * 3, "two classes"),
        ({"task": "classification", "train": "odd"}, [{"text": "the dog", "label": "x"}] * 3, "two classes"),
    ],
)
def test_data_whose_score_means_nothing_is_refused(folder, fields, lines, message):
    (folder / "odd.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=message):
        evaluation.prepare([make_task(data="odd", **fields)], folder)


@pytest.mark.parametrize(
    ("corpus", "qrels", "message"),
    [
        ([(1, "the dog"), (1, "the cat")], [(1, 1, 1)], "two rows have the id '1'"),
        ([(1, "the dog")], [(1, 1, 0.5)], "whole number"),
        ([(1, "the dog")], [(1, 1, 1), (1, 1, 2)], "two grades"),
        ([(1, "the dog")], [(1, 1, 0)], "no query has a relevant document"),
        ([(1, "the dog")], [(1, 2, 1)], "document '2' of the qrels is not there"),
    ],
)
def test_qrels_that_do_not_fit_queries_and_corpus_are_refused(folder, corpus, qrels, message):
    for name, lines in (
        ("corpus", [{"id": i, "text": text} for i, text in corpus]),
        ("queries", [{"id": 1, "text": "dog"}]),
        ("qrels", [{"query_id": q, "document_id": d, "score": grade} for q, d, grade in qrels]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=message):
        evaluation.prepare([make_task(task="retrieval", corpus="corpus", queries="queries", qrels="qrels")], folder)


def test_mteb_prints_nothing_and_its_import_keeps_the_random_state(folder):
    (folder / "STSBenchmark").mkdir()
    (folder / "sts.jsonl").rename(folder / "STSBenchmark" / "test.jsonl")
    code = """
import random, sys
from zoo import evaluation
from zoo.evaluation.spec import Official
random.seed(5)
before = random.getstate()
evaluation.prepare([Official(task="STSBenchmark", folder=sys.argv[1])])
assert "mteb" in sys.modules and random.getstate() == before
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "mteb would warn that STSBenchmark is superseded"


def test_an_evaluation_keeps_the_random_state_of_the_caller(encoder, folder):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    evaluation.evaluate(encoder, [make_task(task="clustering", data="train")], folder=folder, baseline=False)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_a_cut_encoder_is_reported_as_its_cut_beside_the_baseline_of_the_same_cut(encoder, folder, tmp_path):
    cut = encoder.truncate(2, 8)
    spec = make_task(task="sts", name="mine", data="sts", views=[{}, {"dim": 16}])
    first, second = evaluation.evaluate(cut, [spec], folder=folder, results_folder=tmp_path)["results"]
    assert (first["view"], second["view"]) == ({"layers": 2, "dim": 8}, {"layers": 2, "dim": 16})
    assert first["bytes_per_vector"] == 32
    for result in (first, second):
        assert result["baseline"] == pytest.approx(result["value"], abs=1e-6), "an untrained cut is its own baseline"
        assert result["value"] == score(encoder.truncate(**result["view"]), make_task(task="sts", data="sts"), folder)
    assert {path.name for path in tmp_path.iterdir()} >= {"mine__layers2-dim8.json", "mine__layers2-dim16.json"}


def test_an_exported_cut_is_compared_with_the_same_cut_before_training(encoder, folder, tmp_path):
    opened = zoo.from_pretrained(encoder.truncate(2, 8).save(tmp_path / "cut"))
    result = evaluation.evaluate(opened, [make_task(task="sts", data="sts")], folder=folder)["results"][0]
    assert result["view"] == {}
    assert result["baseline"] == pytest.approx(result["value"], abs=1e-6)
