"""The closed registry of families: the modules of this folder, found by file name, imported only when named."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.encoder import Encoder
from zoo.schema import EncoderSpec

__all__ = ["Encoder", "EncoderSpec", "load", "names"]


def names() -> list[str]:
    """Family names, e.g. `matryoshka-2d` for the folder matryoshka_2d."""
    here = Path(__file__).parent
    return sorted(p.parent.name.replace("_", "-") for p in here.glob("*/encoder.py"))


def load(name: str) -> ModuleType:
    """The module of a family, with `Spec` and `Encoder`. Raises ZooError for a name that is not in the registry."""
    if name not in names():
        raise ZooError(f"unknown family {name!r}{suggest(str(name), names())}")
    return importlib.import_module(f"zoo.families.{name.replace('-', '_')}.encoder")
