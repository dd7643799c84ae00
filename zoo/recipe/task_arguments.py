"""A task over the user's own data on the command line: its name, followed by its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.core import paths
from zoo.core.errors import RecipeError, ZooError
from zoo.core.settings import read_settings
from zoo.evaluation import official
from zoo.evaluation.spec import Task
from zoo.evaluation.task import TaskSpec
from zoo.recipe import error_messages, recipe, shipped
from zoo.schema import Section


class _Entry(Section):
    task: Task


def group_words(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each word with the settings key=value that follow it. Raises ZooError for a setting that follows no word."""
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if "=" not in word or paths.is_file(word):
            groups.append((word, []))
        elif groups:
            groups[-1][1].append(word)
        else:
            raise ZooError(
                f"{word} follows no task. Write the task's name first, for example `infomec data.source=file`"
            )
    return groups


def make_task(name: str, settings: Sequence[str]) -> TaskSpec:
    """The task `name` with settings `key.path=value`, the value written as in YAML.

    Raises RecipeError that lists every mistake.
    """
    return validate_task(read_settings(name, settings, {"task": name}))


def validate_task(section: Mapping[str, Any]) -> TaskSpec:
    """The task of an entry of `evaluation:`, as plain values. Raises RecipeError that lists every mistake."""
    tree = dict(section)
    name = str(tree.get("task", "task"))[:80]
    try:
        return _Entry.model_validate({"task": tree}).task
    except ValidationError as error:
        mistakes = error_messages.translate(error, _Entry, {"task": tree})
        raise RecipeError(*(f"{name}: {'.'.join(map(str, path[1:]))}: {text}" for path, text in mistakes)) from None


def read_tasks(tasks: Any, folder: Path) -> list[tuple[list[TaskSpec], Path]]:
    """Tasks and the folder where their relative paths start, for the arguments of `zoo.evaluate`.

    An entry is the name of an official task, the path or name of a recipe whose `evaluation:` is meant, a section of such a
    list as a mapping, or a section that is checked already. Raises ZooError for anything else.
    """
    if isinstance(tasks, str | bytes | Mapping | Path) or not isinstance(tasks, Iterable):
        raise ZooError(f"tasks: {tasks!r} is not a list of tasks: write [{tasks!r}]"[:300])
    groups: list[tuple[list[TaskSpec], Path]] = []
    for task in tasks:
        if isinstance(task, TaskSpec):
            groups.append(([task], folder))
        elif isinstance(task, Mapping):
            groups.append(([validate_task(task)], folder))
        elif isinstance(task, str | Path):
            groups.append(_read_named_task(task, folder))
        else:
            raise ZooError(f"tasks: {task!r} is not a task; give a name, a mapping with `task:`, or a recipe"[:300])
    return groups


def _read_named_task(name: str | Path, folder: Path) -> tuple[list[TaskSpec], Path]:
    """The tasks of a recipe by its path or name, or one official task by its name."""
    if paths.is_file(name) or str(name) in shipped.shipped():
        loaded = recipe.load(name)
        return list(loaded.evaluation), loaded.folder
    if problem := official.find_problem(str(name)):
        raise ZooError(problem)
    return [official.Official(task=str(name))], folder
