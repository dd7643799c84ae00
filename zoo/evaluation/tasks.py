"""Tasks over the user's own data as mteb task objects: mteb computes every score.

A result on one's own data carries the task's own name and the sha256 of its data, and so never claims to be official.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from zoo import files
from zoo.data import Table
from zoo.errors import DataError
from zoo.evaluation.spec import TaskSpec

Tables = Mapping[str, Table]
KINDS: dict[str, tuple[type[AbsTask], str, str]] = {
    "sts": (AbsTaskSTS, "STS", "cosine_spearman"),
    "retrieval": (AbsTaskRetrieval, "Retrieval", "ndcg_at_10"),
    "reranking": (AbsTaskRetrieval, "Reranking", "map_at_1000"),
    "pair-classification": (AbsTaskPairClassification, "PairClassification", "max_ap"),
    "classification": (AbsTaskClassification, "Classification", "accuracy"),
    "clustering": (AbsTaskClustering, "Clustering", "v_measure"),
}


def revision(tables: Tables) -> str:
    """sha256 over the fingerprints of all tables of a task."""
    return files.digest({name: table.fingerprint for name, table in tables.items()})


def shape(spec: TaskSpec, tables: Tables) -> Any:
    """The data as mteb's class for this type wants it. Raises DataError for rows that cannot make up such a task."""
    if spec.task == "retrieval":
        return _retrieval(tables)
    if spec.task == "reranking":
        return _reranking(tables["data"])
    if spec.task == "classification":
        train, test = (
            Dataset.from_dict({k: tables[part].rows[k] for k in ("text", "label")}) for part in ("train", "data")
        )
        strange = sorted({str(x) for x in set(test["label"]) - set(train["label"])})
        if strange:
            raise DataError(f"{spec.name or spec.task}: labels without a training example: {', '.join(strange[:5])}")
        return DatasetDict(train=train, test=test)
    rows = tables["data"].rows
    if spec.task == "clustering":
        return DatasetDict(test=Dataset.from_dict({"sentences": rows["text"], "labels": rows["label"]}))
    if spec.task == "pair-classification":
        labels = list(rows["label"])
        wrong = {str(x) for x in labels} - {"0", "1"}
        if wrong:
            raise DataError(f"{spec.name or spec.task}: a pair's label is 0 or 1, not {', '.join(sorted(wrong)[:3])}")
        pairs = {k: rows[k] for k in ("sentence1", "sentence2")}
        return DatasetDict(test=Dataset.from_dict({**pairs, "labels": [int(x) for x in labels]}))
    return DatasetDict(test=Dataset.from_dict({k: rows[k] for k in ("sentence1", "sentence2", "score")}))


def _retrieval(tables: Tables) -> Any:
    if "qrels" in tables:
        corpus, queries, qrels = (tables[k].rows for k in ("corpus", "queries", "qrels"))
        if "id" not in corpus.column_names:
            raise DataError("retrieval: with `queries` and `qrels`, the corpus needs a column `id`")
        texts = dict(zip(corpus["id"], corpus["text"], strict=True))
        titles = dict(zip(corpus["id"], corpus["title"], strict=True)) if "title" in corpus.column_names else {}
        asked = dict(zip(queries["id"], queries["text"], strict=True))
        grades = qrels["score"] if "score" in qrels.column_names else [1.0] * len(qrels)
        relevant: dict[str, dict[str, int]] = defaultdict(dict)
        for query, document, grade in zip(qrels["query_id"], qrels["document_id"], grades, strict=True):
            if query not in asked or document not in texts:
                where = f"query {query!r}" if query not in asked else f"document {document!r}"
                raise DataError(f"{tables['qrels'].origin.name}: {where} of the qrels is not there")
            if grade > 0:
                relevant[query][document] = int(grade)
        asked = {query: text for query, text in asked.items() if query in relevant}
    else:
        rows, titles = tables["data"].rows, {}
        extra = list(tables["corpus"].rows["text"]) if "corpus" in tables else []
        number = {text: f"d{i}" for i, text in enumerate(dict.fromkeys([*extra, *rows["document"]]))}
        texts = {name: text for text, name in number.items()}
        first = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(rows["query"]))}
        asked = {name: text for text, name in first.items()}
        relevant = defaultdict(dict)
        for query, document in zip(rows["query"], rows["document"], strict=True):
            relevant[first[query]][number[document]] = 1
    return _corpus(texts, asked, dict(relevant), None, titles)


def _reranking(table: Table) -> Any:
    number: dict[str, str] = {}
    asked, relevant, ranked = {}, {}, {}
    for i, row in enumerate(table.rows):
        for text in [*row["positive"], *row["negative"]]:
            number.setdefault(text, f"d{len(number)}")
        asked[f"q{i}"] = row["query"]
        relevant[f"q{i}"] = {number[text]: 1 for text in row["positive"]}
        ranked[f"q{i}"] = list(dict.fromkeys(number[text] for text in [*row["positive"], *row["negative"]]))
    return _corpus({name: text for text, name in number.items()}, asked, relevant, ranked, {})


def _corpus(texts: Any, asked: Any, relevant: Any, ranked: Any, titles: Mapping[str, str]) -> Any:
    corpus = {"id": list(texts), "text": list(texts.values())}
    if titles:
        corpus["title"] = [titles[name] for name in texts]
    queries = Dataset.from_dict({"id": list(asked), "text": list(asked.values())})
    split = {"corpus": Dataset.from_dict(corpus), "queries": queries, "relevant_docs": relevant, "top_ranked": ranked}
    return {"default": {"test": split}}


def build(spec: TaskSpec, tables: Tables, shaped: Any) -> AbsTask:
    """A fresh task object: mteb's draw from state that a second run of the same object would share."""
    parent, kind, main_score = KINDS[spec.task]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name or spec.task)
    metadata = TaskMetadata(
        name=name,
        description=f"{spec.task} over the user's own data",
        dataset={"path": f"local/{name}", "revision": revision(tables)},
        type=kind,
        category="t2t" if kind in ("STS", "Retrieval", "Reranking", "PairClassification") else "t2c",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )

    class Own(parent):  # type: ignore[misc, valid-type]
        data_loaded = False

        def load_data(self, *_: Any, **__: Any) -> None:
            if not self.data_loaded:
                self.dataset, self.data_loaded = shaped, True

    Own.metadata = metadata
    if spec.task == "sts":
        gold = shaped["test"]["score"]
        Own.min_score, Own.max_score = min(gold), max(gold)
    if spec.task == "clustering":
        Own.max_fraction_of_documents_to_embed = None
    return Own()
