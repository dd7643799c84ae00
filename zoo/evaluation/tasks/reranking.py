"""`task: reranking`: rank the candidates of each query."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data, FileData
from zoo.evaluation import retrieval_folder
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import make_text_id, read_by_id, read_grades, shape_corpus
from zoo.evaluation.task import LocalTask, Roles

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class Reranking(LocalTask):
    """Rank the candidates of each query. Main score: map_at_1000.

    Give either `data`, rows of a query with lists of positive and negative candidates, or a `folder` in the layout of BEIR or
    mteb. In a folder, the candidates of a query are its `top_ranked` documents, or all documents that its qrels judge.
    """

    optional = {"corpus": {"title": "caption"}, "qrels": {"score": "number"}}
    official_type = "Reranking"

    task: Literal["reranking"]
    data: Data | None = Field(None, description="Rows of a query with lists of its positive and negative candidates.")
    corpus: Data | None = Field(None, description="Documents with their ids. Filled from `folder`.")
    queries: Data | None = Field(None, description="Queries with their ids. Filled from `folder`.")
    qrels: Data | None = Field(None, description="Which documents answer which queries. Filled from `folder`.")
    top_ranked: Data | None = Field(None, description="The candidates of each query. Filled from `folder`.")
    folder: str | None = Field(None, description="A folder in the layout of BEIR or mteb, in place of `data`.")
    split: str = Field("test", description="The split of the qrels in `folder`.")

    @model_validator(mode="after")
    def _check_layout(self) -> Reranking:
        parts = (self.corpus, self.queries, self.qrels)
        layouts = [self.data is not None, self.folder is not None, any(part is not None for part in parts)]
        if sum(layouts) != 1 or (layouts[2] and None in parts):
            raise ValueError("give `data` (query, positive, negative), `queries` + `corpus` + `qrels`, or `folder`")
        return self

    @property
    def roles(self) -> dict[str, Roles]:  # type: ignore[override]
        """The columns of each part."""
        return {
            "data": {"query": "text", "positive": "texts", "negative": "texts"},
            "corpus": {"id": "id", "text": "caption"},
            "queries": {"id": "id", "text": "text"},
            "qrels": {"query_id": "id", "document_id": "id"},
            "top_ranked": {"query_id": "id", "document_ids": "ids"},
        }

    def resolve(self, folder: Path) -> Self:
        """The task with the parts of `folder`. Raises DataError."""
        if self.folder is None:
            return self
        sources = self.find_sources(retrieval_folder.resolve(self.folder, folder), self.split)
        return self.model_copy(update={**sources, "folder": None})

    @classmethod
    def find_sources(cls, base: Path, split: str) -> dict[str, FileData]:
        """Corpus, queries, qrels and candidates of a folder. Raises DataError."""
        return retrieval_folder.find_sources(base, split)

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Each query has candidates of its own; equal texts of `data` are one document."""
        if "qrels" in tables:
            return _shape_by_id(tables)
        documents: dict[str, str] = {}
        queries: dict[str, str] = {}
        relevant: dict[str, dict[str, int]] = {}
        candidates: dict[str, list[str]] = {}
        for number, row in enumerate(tables["data"].rows):
            texts = {make_text_id(text): text for text in [*row["positive"], *row["negative"]]}
            documents |= texts
            query = f"q{number}"
            queries[query], candidates[query] = row["query"], sorted(texts)
            relevant[query] = {make_text_id(text): 1 for text in row["positive"]}
        return shape_corpus(documents, queries, relevant, candidates)

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.retrieval import AbsTaskRetrieval

        return AbsTaskRetrieval

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """Mean average precision over all candidates."""
        return MtebTask(self.load_mteb_class(), "Reranking", "map_at_1000")


def _shape_by_id(tables: Mapping[str, Table]) -> Any:
    """Raises DataError for ids that are not there and for a query whose candidates hold no relevant document."""
    corpus, qrels = tables["corpus"], tables["qrels"]
    documents, queries = read_by_id(corpus, "text"), read_by_id(tables["queries"], "text")
    titles = read_by_id(corpus, "title") if "title" in corpus.rows.column_names else {}
    grades = read_grades(qrels, documents, queries)
    candidates = {query: sorted(judged) for query, judged in grades.items()}
    if "top_ranked" in tables:
        rows = tables["top_ranked"].rows
        candidates = dict(zip(rows["query_id"], rows["document_ids"], strict=True))
        unknown = {name for names in candidates.values() for name in names if name not in documents}
        if unknown:
            raise DataError(f"{tables['top_ranked'].origin.name}: document {min(unknown)!r} is not in the corpus")
    relevant = {query: {name: grade for name, grade in judged.items() if grade} for query, judged in grades.items()}
    relevant = {query: judged for query, judged in relevant.items() if judged and candidates.get(query)}
    if not relevant:
        raise DataError(f"{qrels.origin.name}: no query has a relevant document and candidates")
    used_queries = {query: text for query, text in queries.items() if query in relevant}
    return shape_corpus(documents, used_queries, relevant, {query: candidates[query] for query in relevant}, titles)
