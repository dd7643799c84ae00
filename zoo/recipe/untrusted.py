"""What a recipe may not hold: access tokens ever, and, when a stranger wrote it, paths that leave the data folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.artefact import allowed_files
from zoo.core.errors import RecipeError

READ = ("encoder", "data", "validation", "evaluation")
"""The sections that name what is read from a disk."""


def no_token(text: str, overrides: Sequence[str], file: str) -> None:
    """Recipes travel with models, and error messages quote them: an access token is refused before either can happen.
    Raises RecipeError with its place, and never its value."""
    advice = "holds an access token: take it out and revoke it; tokens come from `hf auth login` or HF_TOKEN alone"
    if (place := allowed_files.find_token(text)) is not None:
        before = text[:place]
        raise RecipeError(f"{file}:{before.count(chr(10)) + 1}:{place - before.rfind(chr(10))}: {advice}")
    for number, override in enumerate(overrides, 1):
        if allowed_files.find_token(override) is not None:
            raise RecipeError(f"override {number}: {advice}")


def leaving(tree: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Values that could name a file outside the folder that relative paths start from, as (path, message): absolute ones, those
    of a home, and those with `..`. Every text of the sections that read is looked at, so that no family can forget one."""
    why = "leaves the folder of the data, which a recipe from the Hub may not: absolute, `~` or `..`"
    texts = (each for section in READ for each in _texts(tree.get(section), (section,)))
    return [(loc, why) for loc, text in texts if _leaves(text)]


def _leaves(text: str) -> bool:
    return (
        text.startswith(("/", "\\", "~")) or bool(re.match(r"[A-Za-z]:[\\/]", text)) or ".." in re.split(r"[\\/]", text)
    )


def _texts(value: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*loc, index))
