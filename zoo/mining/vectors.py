"""Vectors of many texts in a .npy file that grows by blocks. A killed process goes on with the block that it was at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core import atomic_files
from zoo.core.errors import ZooError

BLOCK = 2048  # texts; a block is encoded at once, so that a resumed run has the batches of an uninterrupted one
Encode = Callable[[Sequence[str]], Any]
Say = Callable[[str], None]


class Vectors:
    """The rows of a .npy file. Each access maps the file anew, so that the pages of earlier blocks leave the memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, int] = np.load(path, mmap_mode="r").shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float32]:
        return np.array(np.load(self.path, mmap_mode="r")[rows])


class FirstRows:
    """The first `count` rows of Vectors."""

    def __init__(self, vectors: Vectors, count: int) -> None:
        self._vectors, self._count = vectors, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> npt.NDArray[np.float32]:
        return self._vectors[slice(rows.start, min(rows.stop, self._count))]


def hash_texts(texts: Sequence[str]) -> str:
    """Return the hex sha256 of texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="replace")
        digest.update(len(content).to_bytes(8))
        digest.update(content)
    return digest.hexdigest()


def encode_to_file(path: Path, texts: Sequence[str], encode: Encode, say: Say = lambda _: None) -> Vectors:
    """Return the unit vectors of `texts`, from the file `path` if it is there, else encoded into it.

    `path` must name texts and encoder, for example by a hash. Raise ZooError for a vector that is not finite.
    """
    if path.exists():
        return Vectors(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, progress = path.with_suffix(".part"), path.with_suffix(".json")
    done = _read_progress(partial, progress, len(texts))
    if not done:
        progress.unlink(missing_ok=True)
    for start in range(done, len(texts), BLOCK):
        vectors = _make_unit_vectors(encode(texts[start : start + BLOCK]))
        if not start:
            shape = (len(texts), vectors.shape[1])
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        _write_block(partial, start, vectors)
        atomic_files.write_json(progress, {"done": start + len(vectors)})
        if start and start // BLOCK % 10 == 0:
            say(f"encoded {start + len(vectors)} of {len(texts)} texts")
    partial.replace(path)
    progress.unlink()
    return Vectors(path)


def _write_block(path: Path, start: int, vectors: npt.NDArray[np.float32]) -> None:
    """Write rows from `start` on. The file is mapped for this block alone, so that its pages leave the memory."""
    rows = np.lib.format.open_memmap(path, mode="r+")
    rows[start : start + len(vectors)] = vectors
    rows.flush()


def _read_progress(partial: Path, progress: Path, count: int) -> int:
    """Return how many of `count` rows an earlier process wrote; 0 if its files do not fit."""
    try:
        done = int(atomic_files.read_json(progress)["done"])
        shape = np.load(partial, mmap_mode="r").shape
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return done if len(shape) == 2 and shape[0] == count and 0 < done <= count else 0


def _make_unit_vectors(vectors: Any) -> npt.NDArray[np.float32]:
    rows = np.asarray(vectors, np.float32)
    if not np.isfinite(rows).all():
        raise ZooError("mine: the model encodes a text to NaN or infinity; name another model in `mine.model`")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit
