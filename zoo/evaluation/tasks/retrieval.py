"""`task: retrieval`: find the documents that answer a query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import CUT_OFFS, make_text_id, shape_corpus
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class Retrieval(LocalTask):
    """Find the documents that answer a query. Main score: ndcg_at_10.

    Give either `data` or ids. `data` has rows of (query, document); the candidates are its documents and the texts of `corpus`,
    and equal texts are one document. With ids, give `queries`, `corpus` and `qrels`.
    """

    roles = {
        "data": {"query": "text", "document": "text"},
        "corpus": {"text": "text"},
        "queries": {"id": "id", "text": "text"},
        "qrels": {"query_id": "id", "document_id": "id"},
    }
    optional = {"corpus": {"id": "id", "title": "text"}, "qrels": {"score": "number"}}

    task: Literal["retrieval"]
    data: Data | None = None
    corpus: Data | None = None
    queries: Data | None = None
    qrels: Data | None = None

    @model_validator(mode="after")
    def _check_layout(self) -> Retrieval:
        by_id = self.queries is not None or self.qrels is not None
        if (self.data is None) != by_id:
            raise ValueError("give either `data` (query, document rows) or `queries` + `corpus` + `qrels`")
        if by_id and (self.queries is None or self.corpus is None or self.qrels is None):
            raise ValueError("the id layout needs all of `queries`, `corpus` and `qrels`")
        return self

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for qrels that do not fit queries and corpus."""
        if "qrels" in tables:
            return _shape_by_id(tables["corpus"], tables["queries"], tables["qrels"])
        rows = tables["data"].rows
        extra = list(tables["corpus"].rows["text"]) if "corpus" in tables else []
        documents = {make_text_id(text): text for text in [*extra, *rows["document"]]}
        queries = {make_text_id(text): text for text in rows["query"]}
        relevant: dict[str, dict[str, int]] = defaultdict(dict)
        for query, document in zip(rows["query"], rows["document"], strict=True):
            relevant[make_text_id(query)][make_text_id(document)] = 1
        return shape_corpus(documents, queries, dict(relevant))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.retrieval import AbsTaskRetrieval

        return AbsTaskRetrieval

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """nDCG of the first ten documents."""
        return MtebTask(self.load_mteb_class(), "Retrieval", "ndcg_at_10", attributes={"k_values": CUT_OFFS})


def _shape_by_id(corpus: Table, queries: Table, qrels: Table) -> Any:
    """Queries without a relevant document are left out, as mteb does it."""
    if "id" not in corpus.rows.column_names:
        raise DataError(f"{corpus.origin.name}: with `queries` and `qrels`, the corpus needs a column `id`")
    documents, texts = _read_by_id(corpus, "text"), _read_by_id(queries, "text")
    titles = _read_by_id(corpus, "title") if "title" in corpus.rows.column_names else {}
    relevant = _read_grades(qrels, documents, texts)
    judged = {query: {name: grade for name, grade in grades.items() if grade} for query, grades in relevant.items()}
    judged = {query: grades for query, grades in judged.items() if grades}
    if not judged:
        raise DataError(f"{qrels.origin.name}: no query has a relevant document")
    return shape_corpus(
        documents, {query: text for query, text in texts.items() if query in judged}, judged, titles=titles
    )


def _read_grades(qrels: Table, documents: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Grades by query and document. Raises DataError for an unknown id, a grade that is not a count, and two grades."""
    rows, source = qrels.rows, qrels.origin.name
    grades = rows["score"] if "score" in rows.column_names else [1.0] * len(rows)
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for query, document, grade in zip(rows["query_id"], rows["document_id"], grades, strict=True):
        if query not in queries or document not in documents:
            missing = f"query {query!r}" if query not in queries else f"document {document!r}"
            raise DataError(f"{source}: {missing} of the qrels is not there")
        if grade != int(grade) or grade < 0:
            raise DataError(f"{source}: a relevance grade is a whole number from 0 on, not {grade}")
        if relevant[query].setdefault(document, int(grade)) != int(grade):
            raise DataError(f"{source}: query {query!r} and document {document!r} have two grades")
    return relevant


def _read_by_id(table: Table, column: str) -> dict[str, str]:
    """The values of a column by id. Raises DataError for two different values under one id."""
    values: dict[str, str] = {}
    for name, text in zip(table.rows["id"], table.rows[column], strict=True):
        if values.setdefault(name, text) != text:
            raise DataError(f"{table.origin.name}: two rows have the id {name!r}")
    return values
