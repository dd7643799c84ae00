"""Tasks over the user's own data, one file each. A file that is added here is a task; no list has to be edited."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from zoo.evaluation.task import OwnDataTask

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of all tasks, sorted: the file `zero_shot.py` is the task `zero-shot`."""
    return sorted(path.stem.replace("_", "-") for path in _HERE.glob("[!_]*.py"))


@cache
def load(name: str) -> type[OwnDataTask]:
    """The section of a task: the one subclass of OwnDataTask that the file defines."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    (section,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, OwnDataTask) and value.__module__ == module.__name__
    )
    return section


def name_of(section: type[OwnDataTask]) -> str:
    """The name of the task that a section belongs to."""
    return section.__module__.rpartition(".")[2].replace("_", "-")
