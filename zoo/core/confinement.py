"""Confine what a recipe from a stranger may read: files below one folder.

Environment variables, the home folder and the working directory play no part in what such a recipe reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from zoo.core.errors import DataError

_confined_to: ContextVar[Path | None] = ContextVar("confined_to", default=None)


@contextmanager
def confine_to(folder: Path) -> Iterator[None]:
    """Inside the block, let `check_path` refuse every file outside `folder`."""
    token = _confined_to.set(folder.resolve())
    try:
        yield
    finally:
        _confined_to.reset(token)


def get_folder() -> Path | None:
    """Return the folder that the recipe may not leave, or None for a recipe of the user's own."""
    return _confined_to.get()


def check_path(path: Path) -> None:
    """Raise DataError if `path`, after all links are followed, is outside the folder of a confined recipe."""
    folder = _confined_to.get()
    if folder is not None and not path.resolve().is_relative_to(folder):
        raise DataError(
            f"{path}: is outside {folder}, which a recipe from the Hub may not leave, also not through a link"
        )
