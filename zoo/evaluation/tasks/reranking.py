"""`task: reranking`: rank the candidates of each query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import make_text_id, shape_corpus
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class Reranking(LocalTask):
    """Rows of a query with lists of positive and negative candidates. Main score: map_at_1000."""

    roles = {"data": {"query": "text", "positive": "texts", "negative": "texts"}}

    task: Literal["reranking"]
    data: Data

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Each query has candidates of its own; equal texts are one document."""
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
