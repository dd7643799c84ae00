"""`task: zero-shot`: the nearest class name is the answer."""

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

COLUMNS = {"input_column_name": "text", "label_column_name": "label"}


class ZeroShot(LocalTask):
    """Texts with the name of their class. The nearest name, encoded as a text, is the answer. Main score: accuracy."""

    roles = {"data": {"text": "text", "label": "label"}}

    task: Literal["zero-shot"]
    data: Data = Field(description="Texts with the name of their class as the label.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for a single class."""
        from datasets import Dataset, DatasetDict

        rows = tables["data"].rows
        check_labels(self.title, rows["label"])
        labels = [str(label) for label in rows["label"]]
        return DatasetDict(test=Dataset.from_dict({"text": rows["text"], "label": labels}))

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes, guessed."""
        return 1 / len(set(tables["data"].rows["label"]))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

        return AbsTaskZeroShotClassification

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """The candidates are the class names that occur."""

        def get_candidate_labels(task: AbsTask) -> list[str]:
            return sorted(set(task_data["test"]["label"]))

        return MtebTask(
            self.load_mteb_class(),
            "ZeroShotClassification",
            "accuracy",
            "t2c",
            columns=COLUMNS,
            attributes={"get_candidate_labels": get_candidate_labels},
        )
