"""`task: image-clustering`: images with a class each."""

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

COLUMNS = {"input_column_name": "image", "label_column_name": "labels"}
ALL_DOCUMENTS = {"max_fraction_of_documents_to_embed": None}


class ImageClustering(LocalTask):
    """Images with a class each. Main score: v_measure."""

    roles = {"data": {"image": "image", "label": "label"}}

    task: Literal["image-clustering"]
    data: Data = Field(description="Images and their labels.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for a single class."""
        from datasets import Dataset, DatasetDict, concatenate_datasets

        rows = tables["data"].rows
        check_labels(self.title, rows["label"])
        labels = Dataset.from_dict({"labels": [str(label) for label in rows["label"]]})
        return DatasetDict(test=concatenate_datasets([rows.select_columns(["image"]), labels], axis=1))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.clustering import AbsTaskClustering

        return AbsTaskClustering

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """Every image is embedded, also of a large data set."""
        return MtebTask(
            self.load_mteb_class(),
            "ImageClustering",
            "v_measure",
            "i2c",
            modalities=("image",),
            columns=COLUMNS,
            attributes=ALL_DOCUMENTS,
        )
