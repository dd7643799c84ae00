"""`task: recognition`: how well a family recognises its own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.task import MeasuredTask, Scores

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder


class Recognition(MeasuredTask):
    """Top-1 and top-5 accuracy, calibration and more of a family with classes of its own. Main score: top1.

    Nearest neighbours are looked for among `train`; `unknown` holds inputs of no class.
    """

    roles = {"data": {"label": "label"}, "train": {"label": "label"}, "unknown": {}}
    optional = {part: {"text": "text", "image": "image"} for part in ("data", "train", "unknown")}
    needs_own_classes = True
    counts_right_classes = True

    task: Literal["recognition"]
    data: Data = Field(description="Labelled inputs of the classes that the encoder knows.")
    train: Data | None = Field(None, description="Labelled inputs among which nearest neighbours are looked for.")
    unknown: Data | None = Field(
        None, description="Inputs of no class, for the scores that say how well they are told."
    )

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes, guessed."""
        return 1 / len(set(tables["data"].rows["label"]))

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """The family computes the scores."""
        return encoder.evaluate_recognition(rows)
