"""Tasks over the user's own data as mteb task objects: mteb computes every score.

A result on one's own data carries the task's own name and the sha256 of its data, and so never claims to be official.
mteb scores some data without a word that cannot give a meaningful score; `shape` refuses it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

from zoo.core import atomic_files
from zoo.core.errors import DataError
from zoo.data import Table
from zoo.evaluation import any_retrieval
from zoo.evaluation.spec import TaskSpec

Tables = Mapping[str, Table]
KINDS: dict[str, tuple[type[AbsTask], str, str]] = {
    "sts": (AbsTaskSTS, "STS", "cosine_spearman"),
    "retrieval": (AbsTaskRetrieval, "Retrieval", "ndcg_at_10"),
    "reranking": (AbsTaskRetrieval, "Reranking", "map_at_1000"),
    "pair-classification": (AbsTaskPairClassification, "PairClassification", "max_ap"),
    "classification": (AbsTaskClassification, "Classification", "accuracy"),
    "clustering": (AbsTaskClustering, "Clustering", "v_measure"),
    "zero-shot": (AbsTaskZeroShotClassification, "ZeroShotClassification", "accuracy"),
    "image-classification": (AbsTaskClassification, "ImageClassification", "accuracy"),
    "image-clustering": (AbsTaskClustering, "ImageClustering", "v_measure"),
    "any-retrieval": (AbsTaskRetrieval, "Any2AnyRetrieval", "ndcg_at_10"),
    "mmeb": (any_retrieval.Strict, "Any2AnyRetrieval", "strict_hit_at_1"),
}
ANY = ("any-retrieval", "mmeb")
"""Tasks whose sides may be texts, images or both."""
COLUMNS: dict[str, dict[str, Any]] = {  # an official class may call them otherwise
    "sts": {"column_names": ("sentence1", "sentence2")},
    "pair-classification": {
        "input1_column_name": "sentence1",
        "input2_column_name": "sentence2",
        "label_column_name": "labels",
    },
    "classification": {"input_column_name": "text", "label_column_name": "label", "train_split": "train"},
    "clustering": {"input_column_name": "sentences", "label_column_name": "labels"},
    "zero-shot": {"input_column_name": "text", "label_column_name": "label"},
    "image-classification": {"input_column_name": "image", "label_column_name": "label", "train_split": "train"},
    "image-clustering": {"input_column_name": "image", "label_column_name": "labels"},
}


def revision(tables: Tables) -> str:
    """sha256 over the fingerprints of all tables of a task."""
    return atomic_files.digest({name: table.fingerprint for name, table in tables.items()})


def shape(spec: TaskSpec, tables: Tables) -> Any:
    """The data as mteb's class for this type wants it. Raises DataError for rows that cannot make up such a task."""
    if spec.task == "retrieval":
        return _retrieval(tables)
    if spec.task == "reranking":
        return _reranking(tables["data"])
    if spec.task == "any-retrieval":
        return any_retrieval.shaped(tables, spec.name or spec.task)
    if spec.task == "mmeb":
        from zoo.evaluation import mmeb

        return mmeb.shaped(tables["data"], spec.name or spec.task)
    name, rows = spec.name or spec.task, tables["data"].rows
    if spec.task in ("classification", "image-classification"):
        columns = list(spec.roles["data"])
        train, test = (tables[part].rows.select_columns(columns) for part in ("train", "data"))
        _classes(name, train["label"])
        strange = sorted({str(x) for x in set(test["label"]) - set(train["label"])})
        if strange:
            raise DataError(f"{name}: labels without a training example: {', '.join(strange[:5])}")
        return DatasetDict(train=train, test=test)
    if spec.task == "image-clustering":
        _classes(name, rows["label"])
        labels = Dataset.from_dict({"labels": [str(label) for label in rows["label"]]})
        return DatasetDict(test=concatenate_datasets([rows.select_columns(["image"]), labels], axis=1))
    if spec.task == "clustering":
        _classes(name, rows["label"])
        labels = [str(label) for label in rows["label"]]  # as numbers, mteb would leave the rows of class -1 out
        return DatasetDict(test=Dataset.from_dict({"sentences": rows["text"], "labels": labels}))
    if spec.task == "zero-shot":
        _classes(name, rows["label"])
        return DatasetDict(test=Dataset.from_dict({"text": rows["text"], "label": [str(x) for x in rows["label"]]}))
    if spec.task == "pair-classification":
        wrong = {str(x) for x in rows["label"]} - {"0", "1"}
        if wrong:
            raise DataError(f"{name}: a pair's label is 0 or 1, not {', '.join(sorted(wrong)[:3])}")
        _classes(name, rows["label"])
        pairs = {k: rows[k] for k in ("sentence1", "sentence2")}
        return DatasetDict(test=Dataset.from_dict({**pairs, "labels": [int(x) for x in rows["label"]]}))
    if len(set(rows["score"])) < 2:
        raise DataError(f"{name}: every pair has the same score, which nothing can correlate with")
    return DatasetDict(test=Dataset.from_dict({k: rows[k] for k in ("sentence1", "sentence2", "score")}))


def _classes(name: str, labels: Any) -> None:
    if len(held := set(labels)) < 2:
        raise DataError(f"{name}: every label is {next(iter(held))!r}; it takes two classes")


def _retrieval(tables: Tables) -> Any:
    if "qrels" in tables:
        return _by_id(*(tables[part] for part in ("corpus", "queries", "qrels")))
    rows = tables["data"].rows
    extra = list(tables["corpus"].rows["text"]) if "corpus" in tables else []
    texts = {_key(text): text for text in [*extra, *rows["document"]]}
    asked = {_key(text): text for text in rows["query"]}
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for query, document in zip(rows["query"], rows["document"], strict=True):
        relevant[_key(query)][_key(document)] = 1
    return _corpus(texts, asked, dict(relevant), None, {})


def _by_id(corpus: Table, queries: Table, qrels: Table) -> Any:
    if "id" not in corpus.rows.column_names:
        raise DataError(f"{corpus.origin.name}: with `queries` and `qrels`, the corpus needs a column `id`")
    texts, asked = _unique(corpus, "text"), _unique(queries, "text")
    titles = _unique(corpus, "title") if "title" in corpus.rows.column_names else {}
    rows = qrels.rows
    grades = rows["score"] if "score" in rows.column_names else [1.0] * len(rows)
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for query, document, grade in zip(rows["query_id"], rows["document_id"], grades, strict=True):
        if query not in asked or document not in texts:
            where = f"query {query!r}" if query not in asked else f"document {document!r}"
            raise DataError(f"{qrels.origin.name}: {where} of the qrels is not there")
        if grade != int(grade) or grade < 0:
            raise DataError(f"{qrels.origin.name}: a relevance grade is a whole number from 0 on, not {grade}")
        if relevant[query].setdefault(document, int(grade)) != int(grade):
            raise DataError(f"{qrels.origin.name}: query {query!r} and document {document!r} have two grades")
    judged = {query: {d: grade for d, grade in found.items() if grade} for query, found in relevant.items()}
    judged = {query: found for query, found in judged.items() if found}
    if not judged:
        raise DataError(f"{qrels.origin.name}: no query has a relevant document")
    return _corpus(texts, {query: text for query, text in asked.items() if query in judged}, judged, None, titles)


def _unique(table: Table, column: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in zip(table.rows["id"], table.rows[column], strict=True):
        if found.setdefault(name, text) != text:
            raise DataError(f"{table.origin.name}: two rows have the id {name!r}")
    return found


def _key(text: str) -> str:
    """An id that tells nothing of the text's place: mteb breaks ties, of which codes of a few bits have many, by id."""
    return atomic_files.digest(text)[:24]


def _reranking(table: Table) -> Any:
    texts: dict[str, str] = {}
    asked, relevant, ranked = {}, {}, {}
    for i, row in enumerate(table.rows):
        candidates = {_key(text): text for text in [*row["positive"], *row["negative"]]}
        positive = {_key(text): 1 for text in row["positive"]}
        texts |= candidates
        asked[f"q{i}"], relevant[f"q{i}"], ranked[f"q{i}"] = row["query"], positive, sorted(candidates)
    return _corpus(texts, asked, relevant, ranked, {})


def _corpus(texts: Any, asked: Any, relevant: Any, ranked: Any, titles: Mapping[str, str]) -> Any:
    corpus = {"id": list(texts), "text": list(texts.values())}
    if titles:
        corpus["title"] = [titles[name] for name in texts]
    queries = Dataset.from_dict({"id": list(asked), "text": list(asked.values())})
    split = {"corpus": Dataset.from_dict(corpus), "queries": queries, "relevant_docs": relevant, "top_ranked": ranked}
    return {"default": {"test": split}}


def build(spec: TaskSpec, shaped: Any, revision: str, parent: type[AbsTask] | None = None) -> AbsTask:
    """A fresh task object over data of `shape`: mteb's draw from state that a second run of the same object would share.

    `parent` is the official class whose way of scoring (samples per label, experiments, main score) is wanted.
    """
    generic, kind, main_score = KINDS[spec.task]
    name = spec.name or spec.task
    own = {"name": name, "dataset": {"path": f"local/{slug(name)}", "revision": revision}, "eval_splits": ["test"]}
    if parent is not None:
        languages = parent.metadata.eval_langs
        if isinstance(languages, dict):
            languages = sorted({language for several in languages.values() for language in several})
        metadata = parent.metadata.model_copy(update=own | {"eval_langs": languages})
    else:
        metadata = TaskMetadata(
            **own,
            description=f"{spec.task} over the user's own data",
            type=kind,
            category=_category(spec.task, shaped),
            modalities=modalities(spec.task, shaped),
            eval_langs=["und-Zzzz"],  # nobody said which
            main_score=main_score,
        )

    class Own(parent or generic):  # type: ignore[misc]
        data_loaded = False

        def load_data(self, *_: Any, **__: Any) -> None:
            if not self.data_loaded:
                self.dataset, self.data_loaded = shaped, True

    Own.metadata = metadata
    for attribute, value in COLUMNS.get(spec.task, {}).items():
        setattr(Own, attribute, value)
    if parent is None and spec.task == "sts":
        gold = shaped["test"]["score"]
        Own.min_score, Own.max_score = min(gold), max(gold)
    if parent is None and spec.task in ("retrieval", "any-retrieval"):
        Own.k_values = (1, 3, 5, 10, 20, 100)  # ranking a thousand a query takes longer than most encoders
    if parent is None and spec.task == "zero-shot":
        Own.get_candidate_labels = lambda self: sorted(set(shaped["test"]["label"]))
    if parent is None and spec.task.endswith("clustering"):
        Own.max_fraction_of_documents_to_embed = None
    return Own()


def modalities(task: str, shaped: Any) -> Any:
    """What a task holds."""
    if task in ANY:
        return [kind for kind in ("image", "text") if kind[0] in shaped["category"].replace("2", "")]
    return ["image"] if task.startswith("image-") else ["text"]


def _category(task: str, shaped: Any) -> Any:
    """What goes in and what comes out, in mteb's notation."""
    if task in ANY:
        return shaped["category"]
    if task.startswith("image-"):
        return "i2c"
    return "t2c" if task in ("classification", "clustering", "zero-shot") else "t2t"


def slug(name: str) -> str:
    """A name for files and paths."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
