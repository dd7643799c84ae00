"""The constant answer: the class that most training rows have, for every input."""

from __future__ import annotations

from collections import Counter

import numpy as np

from zoo.data import kinds
from zoo.evaluation.baselines.baseline import Baseline, BaselineScore
from zoo.evaluation.task import ReadyTask
from zoo.metrics.outcomes import Outcomes


class MostFrequentClass(Baseline):
    """The constant answer on tasks whose main score is the share of right classes, and that have labelled training rows."""

    name = "the most frequent class"
    needs_rows = False

    def suits(self, task: ReadyTask) -> bool:
        """Tasks with labelled rows to train on."""
        return task.spec.counts_right_classes and "train" in (task.tables or {})

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Count the test rows of that class."""
        assert task.tables is not None
        train = task.tables["train"].rows["label"]
        answer = Counter(train).most_common(1)[0][0]
        labels = kinds.match_labels(task.tables["data"].rows["label"], set(train))
        hits = np.array([label == answer for label in labels], dtype=float)
        return [BaselineScore(self.name, float(hits.mean()), Outcomes("rows", "mean", hits))]
