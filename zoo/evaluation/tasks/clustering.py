"""`task: clustering`: texts with a class each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import check_labels
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

COLUMNS = {"input_column_name": "sentences", "label_column_name": "labels"}
ALL_DOCUMENTS = {"max_fraction_of_documents_to_embed": None}


class Clustering(LocalTask):
    """Texts with a class each. Main score: v_measure."""

    roles = {"data": {"text": "text", "label": "label"}}
    official_type = "Clustering"

    task: Literal["clustering"]
    data: Data = Field(description="Texts and their labels.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Labels become strings, because mteb leaves out rows of the class -1. Raises DataError for a single class."""
        from datasets import Dataset, DatasetDict

        rows = tables["data"].rows
        check_labels(self.title, rows["label"])
        labels = [str(label) for label in rows["label"]]
        return DatasetDict(test=Dataset.from_dict({"sentences": rows["text"], "labels": labels}))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.clustering import AbsTaskClustering

        return AbsTaskClustering

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """Every document is embedded, also of a large data set."""
        return MtebTask(
            self.load_mteb_class(), "Clustering", "v_measure", "t2c", columns=COLUMNS, attributes=ALL_DOCUMENTS
        )
