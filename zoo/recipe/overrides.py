"""Overrides of a recipe on the command line: `training.epochs=3`, `evaluation.0.at_least=.5`."""

from __future__ import annotations

from typing import Any

from zoo.core import located_yaml
from zoo.core.errors import RecipeError

Loc = tuple[str | int, ...]


def apply(tree: located_yaml.Tree, text: str) -> Loc:
    """Set the value that an override `key.path=value` names in `tree`, and return its path.

    The value is written as in YAML, and list items are numbered from 0. Raises RecipeError if the override is malformed, or if
    the recipe has no such place.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"override {text}: write it as key.path=value")
    path: Loc = tuple(int(step) if step.isdecimal() and len(step) < 10 else step for step in dotted.split("."))
    try:
        new = located_yaml.parse_value(value)
    except located_yaml.YamlError as error:
        raise RecipeError(f"override {text}: {error.message}") from None
    *parents, last = path
    holder = tree.value
    for step in parents:
        holder = _descend(holder, step, text, "step" if path[0] == "after" else "task")
    if isinstance(holder, dict) or (isinstance(holder, list) and isinstance(last, int) and last < len(holder)):
        holder[last] = new  # type: ignore[index]
    else:
        raise RecipeError(f"override {text}: there is nothing to set at {dotted}")
    return path


def _descend(holder: Any, step: str | int, text: str, name_field: str) -> Any:
    """The value at one step. A missing section is made, and an entry that is written as its bare name becomes a section."""
    if isinstance(holder, dict):
        if holder.get(step) is None:
            holder[step] = {}
        return holder[step]
    if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
        if isinstance(holder[step], str):
            holder[step] = {name_field: holder[step]}
        return holder[step]
    raise RecipeError(f"override {text}: there is nothing at {step}")
