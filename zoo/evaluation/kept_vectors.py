"""Vectors that one evaluation encoded, kept on the disk for the next one of the same encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.core import atomic_files


class KeptVectors:
    """Keeps vectors of texts in a temporary folder, which is removed at the end of the block.

    It belongs to one encoder at one view. Other inputs than texts are encoded each time.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent

    def __enter__(self) -> Self:
        if self._parent is not None:
            self._parent.mkdir(parents=True, exist_ok=True)
        self._temporary = tempfile.TemporaryDirectory(dir=self._parent, ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)
        return self

    def __exit__(self, *error: object) -> None:
        self._temporary.cleanup()

    def find(self, inputs: Sequence[Any], options: Any) -> npt.NDArray[Any] | None:
        """Return the vectors (n, d) of these inputs, which were encoded with these options; None if they were not kept."""
        path = self._name_file(inputs, options)
        return np.load(path, allow_pickle=False) if path is not None and path.exists() else None

    def keep(self, inputs: Sequence[Any], options: Any, vectors: npt.NDArray[Any]) -> None:
        """Keep the vectors (n, d) of some inputs, if all of them are texts."""
        path = self._name_file(inputs, options)
        if path is not None:
            np.save(path, vectors, allow_pickle=False)

    def _name_file(self, inputs: Sequence[Any], options: Any) -> Path | None:
        if not all(isinstance(one, str) for one in inputs):
            return None
        return self._folder / f"{atomic_files.digest([list(inputs), options])}.npy"
