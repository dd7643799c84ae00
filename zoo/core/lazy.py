"""Import a heavy module when it is first used.

`zoo list` and `zoo check` answer in well under a second because nothing on their way touches torch, although the family
modules they read also hold the encoders that need it. A family therefore writes

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy("torch")
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name != "__version__":
            raise AttributeError(name)  # introspection (inspect, pickle, doctest) must not trigger the import
        value = getattr(importlib.import_module(self.__name__), name)
        self.__dict__[name] = value
        return value


def lazy(name: str) -> Any:
    """A stand-in for module `name` that imports it at the first attribute read."""
    return _Lazy(name)
