"""The closed registry of families: the modules of this folder, found by file name, imported only when named."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from zoo.errors import ZooError
from zoo.families.base import Encoder
from zoo.schema import EncoderSpec
from zoo.suggest import suggest

__all__ = ["Encoder", "EncoderSpec", "load", "names"]


def names() -> list[str]:
    """Family names, e.g. `matryoshka-2d` for matryoshka_2d.py."""
    here = Path(__file__).parent
    return sorted(p.stem.replace("_", "-") for p in here.glob("*.py") if p.stem not in ("__init__", "base"))


def load(name: str) -> ModuleType:
    """The module of a family, with `Spec` and `Encoder`. Raises ZooError for a name that is not in the registry."""
    if name not in names():
        raise ZooError(f"unknown family {name!r}{suggest(str(name), names())}")
    return importlib.import_module(f"zoo.families.{name.replace('-', '_')}")
