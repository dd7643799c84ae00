"""A task over the user's own data on the command line: its name, followed by its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from zoo.core import located_yaml, paths
from zoo.core.errors import RecipeError, ZooError
from zoo.evaluation.spec import Task
from zoo.evaluation.task import TaskSpec
from zoo.recipe import error_messages
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
    tree: dict[str, Any] = {"task": name}
    for setting in settings:
        dotted, _, value = setting.partition("=")
        *parents, last = dotted.split(".")
        holder: Any = tree
        for step in parents:
            holder = holder.setdefault(step, {})
            if not isinstance(holder, dict):
                raise RecipeError(f"{name}: {setting}: there is nothing to set below {step}")
        try:
            holder[last] = located_yaml.parse_value(value)
        except located_yaml.YamlError as error:
            raise RecipeError(f"{name}: {setting}: {error.message}") from None
    try:
        return _Entry.model_validate({"task": tree}).task
    except ValidationError as error:
        mistakes = error_messages.translate(error, _Entry, {"task": tree})
        raise RecipeError(*(f"{name}: {'.'.join(map(str, path[1:]))}: {text}" for path, text in mistakes)) from None
