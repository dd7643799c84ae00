"""Refuses access tokens in any recipe, and paths that leave the data folder in a recipe that a stranger wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.artefact import allowed_files
from zoo.core.errors import RecipeError

READING_SECTIONS = ("encoder", "data", "validation", "evaluation")
"""Sections that name files to read."""


def refuse_tokens(text: str, overrides: Sequence[str], file: str) -> None:
    """Raise RecipeError for an access token, with its place but never its value.

    Recipes travel with models, and error messages quote them, so a token is refused before anything else is done.
    """
    advice = "holds an access token: take it out and revoke it; tokens come from `hf auth login` or HF_TOKEN alone"
    if (place := allowed_files.find_token(text)) is not None:
        before = text[:place]
        raise RecipeError(f"{file}:{before.count(chr(10)) + 1}:{place - before.rfind(chr(10))}: {advice}")
    for number, override in enumerate(overrides, 1):
        if allowed_files.find_token(override) is not None:
            raise RecipeError(f"override {number}: {advice}")


def find_outside_paths(tree: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Values that could name a file outside the folder where relative paths start, as (path, message).

    These are absolute paths, paths in a home, and paths with `..`. Every text of the reading sections is checked, so that no
    family can forget one of its fields.
    """
    message = "leaves the folder of the data, which a recipe from the Hub may not: absolute, `~` or `..`"
    texts = (entry for section in READING_SECTIONS for entry in _list_texts(tree.get(section), (section,)))
    return [(loc, message) for loc, text in texts if _leaves(text)]


def _leaves(text: str) -> bool:
    return (
        text.startswith(("/", "\\", "~")) or bool(re.match(r"[A-Za-z]:[\\/]", text)) or ".." in re.split(r"[\\/]", text)
    )


def _list_texts(value: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _list_texts(inner, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _list_texts(inner, (*loc, index))
