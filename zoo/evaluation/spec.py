"""The `evaluation:` section: official mteb tasks by name, and tasks over the user's own data. Pydantic only.

`validation:` has tasks over the user's own data only, because official tasks are test data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model

from zoo.data.spec import Data, Size
from zoo.evaluation import tasks
from zoo.evaluation.official import Official
from zoo.evaluation.task import TaskSpec

OFFICIAL = "official"
ROWS_ENTRY, TASK_ENTRY = "rows of validation", "task of validation"  # pydantic's tags, which are no fields of a section


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


def _make_validation_section(section: type[TaskSpec]) -> type[TaskSpec]:
    """Return the section of a task as an entry of `validation:`, which also has `metric`."""
    description = "The metric that is watched. Default: the main score of the task."
    made: type[TaskSpec] = create_model(
        f"Validation{section.__name__}",
        __base__=section,
        __module__=section.__module__,
        __doc__=section.__doc__,
        metric=(str | None, Field(None, description=description)),
    )
    return made


def _find_kind(value: Any) -> str:
    """The kind of an entry of `validation:`: a task, or rows."""
    is_task = "task" in value if isinstance(value, dict) else isinstance(value, TaskSpec)
    return TASK_ENTRY if is_task else ROWS_ENTRY


def _find_own_tag(value: Any) -> str:
    return str(value.get("task") if isinstance(value, dict) else getattr(value, "task", None))


if TYPE_CHECKING:
    ValidationTask = TaskSpec
    ValidationEntry = Data | TaskSpec
else:
    _OWN_SECTIONS = {name: _make_validation_section(tasks.load(name)) for name in tasks.names()}
    ValidationTask = Annotated[
        Union[tuple(Annotated[section, Tag(name)] for name, section in _OWN_SECTIONS.items())],  # noqa: UP007
        Discriminator(_find_own_tag),
    ]
    ValidationEntry = Annotated[
        Annotated[Data, Tag(ROWS_ENTRY)] | Annotated[ValidationTask, Tag(TASK_ENTRY)], Discriminator(_find_kind)
    ]
"""One entry of `validation:`: rows whose loss is computed, or a task over the user's own data that is scored."""

Validation = (
    ValidationEntry | Size | Literal["auto"] | Annotated[tuple[ValidationEntry | Size, ...], Field(min_length=1)]
)
"""`validation:`: rows, a task, or a list of tasks and at most one entry of rows."""


def list_tasks(validation: Any) -> tuple[TaskSpec, ...]:
    """Return the tasks of a `validation:` section."""
    entries = validation if isinstance(validation, tuple) else (validation,)
    return tuple(entry for entry in entries if isinstance(entry, TaskSpec))


def find_rows(validation: Any) -> Any:
    """Return the rows of a `validation:` section: a data section, a size, `auto`, or None."""
    entries = validation if isinstance(validation, tuple) else (validation,)
    return next((entry for entry in entries if not isinstance(entry, TaskSpec)), None)
