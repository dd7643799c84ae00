"""`task: any-retrieval`: retrieval of and by texts, images and both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import CUT_OFFS
from zoo.evaluation.task import LocalTask, Roles

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

PAIR: Roles = {"query": "caption", "query_image": "pictures", "document": "caption", "document_image": "pictures"}
"""The columns of a query and a document; each side is a text, an image or both."""


class AnyRetrieval(LocalTask):
    """Retrieval of and by texts, images and both. Main score: ndcg_at_10.

    Rows of `data` are a query and a document that answers it. Candidates are the documents of all rows and those of `corpus`.
    Rows of `known` are further right answers, for example from training; they are left out of that query's candidates.
    """

    roles = {"data": {}, "corpus": {}, "known": {}}
    optional = {
        "data": dict(PAIR),
        "corpus": {"text": "caption", "image": "pictures"},
        "known": dict(PAIR),
    }
    shows_answers = True

    task: Literal["any-retrieval"]
    data: Data = Field(description="Rows of a query and a document that answers it.")
    corpus: Data | None = Field(None, description="Further candidates, besides the documents of `data`.")
    known: Data | None = Field(None, description="Right answers that are left out of the candidates of their query.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for a row without a query or without a document."""
        from zoo.evaluation import multimodal_retrieval

        return multimodal_retrieval.shape_pairs(tables, self.title)

    def list_modalities(self, tables: Mapping[str, Table], task_data: Any) -> frozenset[str]:
        """The modalities that occur on either side."""
        from zoo.evaluation import multimodal_retrieval

        return frozenset(multimodal_retrieval.list_modalities(task_data))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.retrieval import AbsTaskRetrieval

        return AbsTaskRetrieval

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """The category says which modalities each side has."""
        from zoo.evaluation import multimodal_retrieval

        return MtebTask(
            self.load_mteb_class(),
            "Any2AnyRetrieval",
            "ndcg_at_10",
            task_data["category"],
            modalities=multimodal_retrieval.list_modalities(task_data),
            attributes={"k_values": CUT_OFFS},
        )
