"""`task: geometry`: how the classes lie in the space of an encoder, and how much it tells of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from zoo.core.errors import DataError
from zoo.data import Table, kinds
from zoo.data.spec import Data
from zoo.evaluation.shaping import check_labels
from zoo.evaluation.task import HITS, MeasuredTask, Scores

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

INPUTS = {"text": "text", "image": "image", "vector": "vector"}


class Geometry(MeasuredTask):
    """Neural collapse, label sharpness and linear V-information of any encoder. Main score: nearest_mean, held out.

    The means and the linear classifier are of `train`, and are tried on `data`. Rows of `train` with suspected labels are listed.
    For an encoder that can be cut in layers, the first layer that knows the labels is found.
    """

    roles = {"train": {"label": "label"}, "data": {"label": "label"}}
    optional = {"train": INPUTS, "data": INPUTS}  # type: ignore[dict-item]
    counts_right_classes = True

    task: Literal["geometry"]
    train: Data = Field(description="Labelled inputs that give the class means and train the linear classifier.")
    data: Data = Field(description="Labelled inputs that are held out from it.")
    by_layer: bool = Field(True, description="Also measure every depth of an encoder that can be cut in layers.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(42, description="Seed of the rows that are drawn.")

    def check_tables(self, tables: Mapping[str, Table]) -> None:
        """Raises DataError for a single class, for a label without a training row, and for classes of a single row."""
        train = tables["train"].rows["label"]
        check_labels(self.title, train)
        labels = kinds.match_labels(tables["data"].rows["label"], set(train))
        unknown = sorted({str(label) for label in set(labels) - set(train)})
        if unknown:
            raise DataError(f"{self.title}: labels without a training row: {', '.join(unknown[:5])}")
        if sum(labels.count(label) > 1 for label in set(labels)) < 2:
            raise DataError(f"{self.title}: `data` needs two classes with two rows or more: give more rows")

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes, guessed."""
        return 1 / len(set(tables["data"].rows["label"]))

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """Held-out nearest mean first, then collapse, sharpness and information."""
        from zoo.metrics import geometry_of_encoder

        figures, details, hits = geometry_of_encoder.measure(encoder, rows, by_layer=self.by_layer, seed=self.seed)
        return figures, details | {HITS: hits.tolist()}
