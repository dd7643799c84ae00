"""Scores an encoder on validation tasks in the middle of its training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.metric_direction import is_higher_better
from zoo.core.suggest import suggest
from zoo.evaluation import task_metrics
from zoo.evaluation.mteb_isolation import preserve_random_state, silence_mteb
from zoo.evaluation.prepare import Prepared, check_encoder, prepare
from zoo.evaluation.task import ReadyTask, TaskSpec

if TYPE_CHECKING:
    from zoo.encoder import Encoder


@dataclass(frozen=True)
class WatchedTasks:
    """The validation tasks of a recipe, whose data was read; the Trainer's `zoo.training.watch.Watch`."""

    prepared: Prepared

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher score is a better one. The tasks of a checked recipe agree."""
        return is_higher_better(find_metric(self.prepared.tasks[0].spec))

    def check(self, encoder: Encoder) -> None:
        """Raise ZooError for a task or a view that the encoder does not have."""
        check_encoder(encoder, self.prepared)
        for task in self.prepared.tasks:
            for view in task.spec.views:
                encoder.view(**view)

    def score(self, encoder: Any) -> Mapping[str, float]:
        """Return the score of each task by its name: the mean over the task's views."""
        with preserve_random_state(), silence_mteb():
            return {
                task.name: statistics.fmean(_score(encoder.view(**view), task) for view in task.spec.views)
                for task in self.prepared.tasks
            }


def prepare_watch(tasks: Sequence[TaskSpec], folder: Path) -> WatchedTasks | None:
    """Read the data of the validation tasks; None if there are no tasks. Raises DataError and ZooError."""
    return WatchedTasks(prepare(tasks, folder)) if tasks else None


def find_metric(task: TaskSpec) -> str:
    """Return the metric by which a validation task is scored."""
    return getattr(task, "metric", None) or task_metrics.list_metrics(task.task)[0]


def _score(encoder: Encoder, task: ReadyTask) -> float:
    from zoo.evaluation import scoring

    metric, figures = find_metric(task.spec), scoring.compute_figures(encoder, task)
    if metric not in figures:  # for example a figure of rows that the task was not given
        raise ZooError(f"validation: {task.name}: the data gives no {metric}{suggest(metric, figures)}")
    return figures[metric]
