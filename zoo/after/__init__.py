"""The registry of steps after training: the folders of this folder, found by name and imported only when named.

A step is one folder with `spec.py` (a class `Spec`, its fields in a recipe) and `step.py` (a class `Step`, what is fitted). The
first line of the folder's own docstring is its summary. `Spec.step` is a Literal with the name of the folder. A folder that is
added here is a step; no list has to be edited.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    from zoo.after.spec import StepSpec
    from zoo.after.step import Step

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of all steps, sorted: the folder `fixed_dimensional` is the step `fixed-dimensional`."""
    return sorted(path.parent.name.replace("_", "-") for path in _HERE.glob("*/spec.py"))


def load_spec(name: str) -> type[StepSpec]:
    """The class of a step's section. It imports pydantic only. Raises ZooError for an unknown step."""
    return _load(name, "spec", "Spec")


def load_step(name: str) -> type[Step]:
    """The class of a step; it may import torch. Raises ZooError for an unknown step."""
    return _load(name, "step", "Step")


def read_summary(name: str) -> str:
    """The first line of the docstring of a step's folder, without importing the step."""
    text = (_HERE / name.replace("-", "_") / "__init__.py").read_text(encoding="utf-8")
    return text.strip().strip('"').splitlines()[0].strip('"')


def open_step(folder: str | Path) -> Step:
    """Open the folder of a fitted step, as `zoo fit` writes it.

    Raises ArtefactError for altered files and for tensors that do not fit the step.
    """
    return importlib.import_module("zoo.after.saved").open_step(folder)  # type: ignore[no-any-return]


def _load(name: str, module: str, attribute: str) -> type:
    if name not in names():
        raise ZooError(f"unknown step {name!r}{suggest(str(name), names())}")
    loaded: type = getattr(importlib.import_module(f"zoo.after.{name.replace('-', '_')}.{module}"), attribute)
    return loaded
