"""Settings on the command line: `key.path=value`, the value written as in YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.core import located_yaml
from zoo.core.errors import RecipeError


def read_settings(name: str, settings: Sequence[str], tree: dict[str, Any]) -> dict[str, Any]:
    """Set the values of `settings` in `tree`, and return it. Sections that are missing are made.

    `name` is what is set, for the message. Raise RecipeError for a setting that is malformed.
    """
    for setting in settings:
        dotted, equals, value = setting.partition("=")
        if not equals or not dotted:
            raise RecipeError(f"{name}: {setting}: write it as key=value")
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
    return tree
