"""Versions of the packages that a run depends on, as lock.json keeps them."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = (
    "embedding-zoo",
    "torch",
    "transformers",
    "sentence-transformers",
    "datasets",
    "mteb",
    "numpy",
    "tokenizers",
    "accelerate",
    "safetensors",
)


def list_packages() -> dict[str, str]:
    """Version of Python and of each installed package, by name."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
