"""The registry of steps after training: the folders of this folder, found by name and imported only when named.

A step is one folder with `spec.py` (a class `Spec`, its fields in a recipe) and `step.py` (a class `Step`, what is fitted). A
folder that is added here is a step; no list has to be edited.
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


def _load(name: str, module: str, attribute: str) -> type:
    if name not in names():
        raise ZooError(f"unknown step {name!r}{suggest(str(name), names())}")
    loaded: type = getattr(importlib.import_module(f"zoo.after.{name.replace('-', '_')}.{module}"), attribute)
    return loaded
