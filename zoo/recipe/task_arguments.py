"""A task over the user's own data as the command line writes it: its name and then its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.core import located_yaml
from zoo.core.errors import RecipeError, ZooError
from zoo.evaluation.spec import Task, TaskSpec
from zoo.recipe import error_messages
from zoo.schema import Section


class _Asked(Section):
    task: Task


def words(given: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each word with the settings key=value that follow it. Raises ZooError for one that follows none."""
    found: list[tuple[str, list[str]]] = []
    for word in given:
        if "=" not in word or Path(word).is_file():
            found.append((word, []))
        elif found:
            found[-1][1].append(word)
        else:
            raise ZooError(f"{word}: is a setting of no task; write the task's name before it")
    return found


def task(name: str, settings: Sequence[str]) -> TaskSpec:
    """The task `name` with settings `key.path=value`, the value written as in YAML. Raises RecipeError that lists every
    mistake."""
    tree: dict[str, Any] = {"task": name}
    for setting in settings:
        dotted, _, value = setting.partition("=")
        *above, last = dotted.split(".")
        holder: Any = tree
        for step in above:
            holder = holder.setdefault(step, {})
            if not isinstance(holder, dict):
                raise RecipeError(f"{name}: {setting}: there is nothing to set below {step}")
        try:
            holder[last] = located_yaml.parse_value(value)
        except located_yaml.YamlError as error:
            raise RecipeError(f"{name}: {setting}: {error.message}") from None
    try:
        return _Asked.model_validate({"task": tree}).task
    except ValidationError as error:
        found = error_messages.of(error, _Asked, {"task": tree})
        raise RecipeError(*(f"{name}: {'.'.join(map(str, path[1:]))}: {text}" for path, text in found)) from None
