"""The interface of validation tasks for the Trainer. Imports no torch; `zoo.evaluation.watching` has the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Watch(Protocol):
    """Tasks whose score is computed during a training."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        ...

    def score(self, encoder: Any) -> Mapping[str, float]:
        """Return the score of each task by its name. Leaves the random state as it was."""
        ...
