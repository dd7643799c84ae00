"""The recipes that come with the package, and how a recipe is found by path or by name. Imports nothing heavy."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from zoo.core import paths
from zoo.core.errors import RecipeError
from zoo.core.suggest import suggest


def shipped() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    folder = Path(str(importlib.resources.files("zoo.recipes")))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def find(path: str | Path) -> Path:
    """A recipe file by path or by shipped name. Raises RecipeError with the closest name."""
    file = Path(path)
    if paths.is_file(file):
        return file
    if str(path) in shipped():
        return shipped()[str(path)]
    around = (
        [*shipped(), *(str(p) for p in file.parent.glob("*.y*ml"))] if paths.is_folder(file.parent) else list(shipped())
    )
    raise RecipeError(f"{path}: there is no such recipe{suggest(str(path), around)}")
