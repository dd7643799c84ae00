"""`task: pair-classification`: pairs of texts that do or do not belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import check_labels
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

COLUMNS = {
    "input1_column_name": "sentence1",
    "input2_column_name": "sentence2",
    "label_column_name": "labels",
}


class PairClassification(LocalTask):
    """Pairs that do (1) or do not (0) belong together. Main score: max_ap."""

    roles = {"data": {"sentence1": "text", "sentence2": "text", "label": "label"}}
    official_type = "PairClassification"

    task: Literal["pair-classification"]
    data: Data = Field(description="Pairs of texts with the label 1 if they belong together, else 0.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for a label other than 0 and 1, and if all labels are equal."""
        from datasets import Dataset, DatasetDict

        rows = tables["data"].rows
        unknown = {str(label) for label in rows["label"]} - {"0", "1"}
        if unknown:
            raise DataError(f"{self.title}: a pair's label is 0 or 1, not {', '.join(sorted(unknown)[:3])}")
        check_labels(self.title, rows["label"])
        columns = {name: rows[name] for name in ("sentence1", "sentence2")}
        return DatasetDict(test=Dataset.from_dict({**columns, "labels": [int(label) for label in rows["label"]]}))

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """The share of pairs that belong together is the precision of any order of the pairs, on average."""
        labels = tables["data"].rows["label"]
        return sum(int(label) for label in labels) / len(labels)

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.pair_classification import AbsTaskPairClassification

        return AbsTaskPairClassification

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """Average precision at the best similarity."""
        return MtebTask(self.load_mteb_class(), "PairClassification", "max_ap", columns=COLUMNS)
