"""Chance: the score of an encoder whose vectors say nothing about the data."""

from __future__ import annotations

from zoo.evaluation.baselines.baseline import Baseline, BaselineScore
from zoo.evaluation.task import ReadyTask


class Chance(Baseline):
    """The score that guessing gives, where the task knows it."""

    name = "chance"
    needs_rows = False

    def suits(self, task: ReadyTask) -> bool:
        """Tasks whose chance is above zero."""
        return task.chance > 0

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Take the task's own figure."""
        return [BaselineScore(self.name, task.chance)]
