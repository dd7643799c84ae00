"""`task: retrieval`: find the documents that answer a query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data, FileData
from zoo.evaluation import retrieval_folder
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import CUT_OFFS, make_text_id, read_by_id, read_grades, shape_corpus
from zoo.evaluation.task import LocalTask, Roles

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class Retrieval(LocalTask):
    """Find the documents that answer a query. Main score: ndcg_at_10.

    Give either `data` or ids. `data` has rows of (query, document); the candidates are its documents and the texts of `corpus`,
    and equal texts are one document. With ids, give `queries`, `corpus` and `qrels`. Texts and titles of the corpus may be
    empty, as in mteb.
    """

    optional = {"corpus": {"id": "id", "title": "caption"}, "qrels": {"score": "number"}}
    official_type = "Retrieval"

    task: Literal["retrieval"]
    data: Data | None = Field(None, description="Rows of a query and a document that answers it.")
    corpus: Data | None = Field(
        None, description="Candidates: further texts besides those of `data`, or all documents with their ids."
    )
    queries: Data | None = Field(None, description="Queries with their ids, instead of `data`.")
    qrels: Data | None = Field(None, description="Ids of a query and of a document that answers it, instead of `data`.")
    folder: str | None = Field(
        None, description="A folder in the layout of BEIR or mteb, in place of `queries`, `corpus` and `qrels`."
    )
    split: str = Field("test", description="The split of the qrels in `folder`.")

    @model_validator(mode="after")
    def _check_layout(self) -> Retrieval:
        by_id = self.queries is not None or self.qrels is not None
        if self.folder is not None:
            if by_id or self.data is not None or self.corpus is not None:
                raise ValueError("give either `folder` or data sections, not both")
            return self
        if (self.data is None) != by_id:
            raise ValueError("give `data` (query, document rows), `queries` + `corpus` + `qrels`, or `folder`")
        if by_id and (self.queries is None or self.corpus is None or self.qrels is None):
            raise ValueError("the id layout needs all of `queries`, `corpus` and `qrels`")
        return self

    @property
    def roles(self) -> dict[str, Roles]:  # type: ignore[override]
        """The columns of each part. The corpus needs ids if there are qrels."""
        corpus: Roles = {"text": "caption"} if self.qrels is None else {"id": "id", "text": "caption"}
        return {
            "data": {"query": "text", "document": "text"},
            "corpus": corpus,
            "queries": {"id": "id", "text": "text"},
            "qrels": {"query_id": "id", "document_id": "id"},
        }

    def resolve(self, folder: Path) -> Self:
        """The task with the parts of `folder`. Raises DataError."""
        if self.folder is None:
            return self
        sources = self.find_sources(retrieval_folder.resolve(self.folder, folder), self.split)
        return self.model_copy(update={**sources, "folder": None})

    @classmethod
    def find_sources(cls, base: Path, split: str) -> dict[str, FileData]:
        """Corpus, queries and qrels of a folder. Raises DataError."""
        sources = retrieval_folder.find_sources(base, split)
        return {part: sources[part] for part in retrieval_folder.NEEDED}

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
    documents, texts = read_by_id(corpus, "text"), read_by_id(queries, "text")
    titles = read_by_id(corpus, "title") if "title" in corpus.rows.column_names else {}
    relevant = read_grades(qrels, documents, texts)
    judged = {query: {name: grade for name, grade in grades.items() if grade} for query, grades in relevant.items()}
    judged = {query: grades for query, grades in judged.items() if grades}
    if not judged:
        raise DataError(f"{qrels.origin.name}: no query has a relevant document")
    return shape_corpus(
        documents, {query: text for query, text in texts.items() if query in judged}, judged, titles=titles
    )
