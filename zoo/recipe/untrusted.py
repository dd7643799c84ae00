"""Refuses access tokens in any recipe, and paths that leave the data folder in a recipe that a stranger wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.artefact import allowed_files
from zoo.core.errors import RecipeError

READING_SECTIONS = ("encoder", "data", "validation", "evaluation", "after")
"""Sections that name files to read."""
LIMITS = {"epochs": 1_000, "steps": 10_000_000, "max_cell_mb": 1_024}
"""The largest value of fields whose name ends so, in a recipe that a stranger wrote."""


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


def find_excesses(fields: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Numbers of a checked recipe that make its training or its memory unbounded, as (path, message)."""
    mistakes = []
    for loc, value in _list_numbers(fields, ()):
        name = str(loc[-1])
        limit = next((limit for ending, limit in LIMITS.items() if name.endswith(ending)), None)
        if limit is not None and value > limit:
            mistakes.append((loc, f"is {value:g}, and a recipe from the Hub may ask for {limit:,} at most"))
    return mistakes


def _list_numbers(value: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], float]]:
    if isinstance(value, int | float):
        yield loc, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _list_numbers(inner, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _list_numbers(inner, (*loc, index))


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
