"""The `evaluation:` section: official mteb tasks by name, and tasks over the user's own data. Pydantic only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from zoo.evaluation import tasks
from zoo.evaluation.official import Official
from zoo.evaluation.task import TaskSpec

OFFICIAL = "official"


def _find_tag(value: Any) -> str:
    """The task's name, or `official` for every name that is not a task over one's own data."""
    task = value.get("task") if isinstance(value, dict) else getattr(value, "task", None)
    return str(task) if task in tasks.names() else OFFICIAL


if TYPE_CHECKING:
    Task = TaskSpec
else:
    _SECTIONS = {name: tasks.load(name) for name in tasks.names()} | {OFFICIAL: Official}
    Task = Annotated[
        Union[tuple(Annotated[section, Tag(name)] for name, section in _SECTIONS.items())],  # noqa: UP007
        Discriminator(_find_tag),
    ]
"""One entry of `evaluation:`. A recipe may also write a bare string NAME for {task: NAME}."""
