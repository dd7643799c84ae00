"""An alternative to learning topics: count the keywords."""

from __future__ import annotations

import numpy as np

from zoo.evaluation.baselines.baseline import Baseline, BaselineScore
from zoo.evaluation.task import ReadyTask
from zoo.families.lbl2vec.keyword_counts import count_keywords
from zoo.families.lbl2vec.spec import Spec
from zoo.metrics.outcomes import Outcomes


class CountKeywords(Baseline):
    """The label whose keywords occur most often in a text. A tie counts as a guess among its labels."""

    name = "counting the keywords"
    needs_rows = False

    def suits(self, task: ReadyTask) -> bool:
        """Zero-shot tasks whose classes are the labels of the recipe."""
        if task.spec.task != "zero-shot" or not task.tables:
            return False
        return set(map(str, task.tables["data"].rows["label"])) <= set(self._spec.labels)

    @property
    def _spec(self) -> Spec:
        spec = self.training.encoder.spec
        assert isinstance(spec, Spec)
        return spec

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Choose among the labels that occur, as the task itself does."""
        assert task.tables is not None
        rows = task.tables["data"].rows
        answers = list(map(str, rows["label"]))
        keywords = {label: self._spec.labels[label] for label in sorted(set(answers))}
        counts = count_keywords(rows["text"], keywords)
        is_best = counts == counts.max(1, keepdims=True)
        right = np.array([list(keywords).index(label) for label in answers])
        hits = is_best[np.arange(len(right)), right] / is_best.sum(1)
        return [BaselineScore(self.name, float(hits.mean()), Outcomes("rows", "mean", hits))]
