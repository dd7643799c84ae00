"""`task: recognition`: how well a family recognises its own classes."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.task import MeasuredTask, Mistake, Scores

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder


class Recognition(MeasuredTask):
    """Top-1 and top-5 accuracy, calibration and more of a family with classes of its own. Main score: top1.

    Nearest neighbours are looked for among `train`; `unknown` holds inputs of no class. With `tree` or `scale`, the answer with
    the smallest expected squared distance to the truth is scored beside the most probable class.
    """

    roles = {
        "data": {"label": "label"},
        "train": {"label": "label"},
        "unknown": {},
        "tree": {"label": "label", "parent": "label"},
    }
    parts_without_inputs = ("tree",)
    optional = {part: {"text": "text", "image": "image"} for part in ("data", "train", "unknown")}
    needs_own_classes = True
    counts_right_classes = True

    task: Literal["recognition"]
    data: Data = Field(description="Labelled inputs of the classes that the encoder knows.")
    train: Data | None = Field(None, description="Labelled inputs among which nearest neighbours are looked for.")
    unknown: Data | None = Field(
        None, description="Inputs of no class, for the scores that say how well they are told."
    )
    tree: Data | None = Field(
        None,
        description="The tree of the labels: a row for each label that has a parent, with the columns label and parent.",
    )
    scale: tuple[str | int, ...] | None = Field(None, description="The labels in order, if they are steps of a scale.")
    answers: Literal["classes", "leaves", "all"] = Field(
        "classes", description="Which labels of the tree or the scale may be answers; `all` has the inner nodes too."
    )

    def find_mistakes(self, folder: Path, unsure: Container[str] = ()) -> list[Mistake]:
        """Report two kinds of distances, and `answers` without any, besides mistakes in the data."""
        mistakes = super().find_mistakes(folder, unsure)
        if self.tree is not None and self.scale is not None:
            mistakes.append((("scale",), "`tree` and `scale` both give distances between labels: leave one out"))
        if self.tree is None and self.scale is None and self.answers != "classes":
            mistakes.append((("answers",), f"{self.answers!r} needs `tree` or `scale`"))
        if self.scale is not None and len(set(self.scale)) < max(2, len(self.scale)):
            mistakes.append((("scale",), "must name at least two labels, each once"))
        return mistakes

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes, guessed."""
        return 1 / len(set(tables["data"].rows["label"]))

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """The family computes the scores."""
        if self.tree is None and self.scale is None:
            return encoder.evaluate_recognition(rows)
        from zoo.data import kinds
        from zoo.label_geometry import LabelMetric, TreeMetric, make_ordered_metric

        if self.scale is not None:
            metric: LabelMetric = make_ordered_metric(kinds.match_labels(self.scale, rows["data"]["label"]))
        else:
            children, parents = (
                kinds.match_labels(rows["tree"][name], rows["data"]["label"]) for name in ("label", "parent")
            )
            metric = TreeMetric(dict(zip(children, parents, strict=True)))
        inputs = {name: table for name, table in rows.items() if name not in self.parts_without_inputs}
        return encoder.evaluate_recognition(inputs, metric, self.answers)
