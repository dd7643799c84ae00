"""`task: image-classification`: a logistic regression on frozen image embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.shaping import shape_classification
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

COLUMNS = {"input_column_name": "image", "label_column_name": "label", "train_split": "train"}


class ImageClassification(LocalTask):
    """A logistic regression on frozen embeddings of the images of `train`. Main score: accuracy."""

    roles = {"train": {"image": "image", "label": "label"}, "data": {"image": "image", "label": "label"}}
    official_type = "ImageClassification"
    counts_right_classes = True

    task: Literal["image-classification"]
    train: Data = Field(description="Labelled images that the logistic regression learns from.")
    data: Data = Field(description="Labelled images that it is scored on.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for fewer than two classes, and for a test label without a training row."""
        return shape_classification(self.title, tables, ["image", "label"])

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes, guessed."""
        return 1 / len(set(tables["data"].rows["label"]))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.classification import AbsTaskClassification

        return AbsTaskClassification

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """Accuracy of the regression."""
        return MtebTask(
            self.load_mteb_class(), "ImageClassification", "accuracy", "i2c", modalities=("image",), columns=COLUMNS
        )
