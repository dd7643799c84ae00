"""Arrays that take long to compute: made in blocks, kept on disk, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zoo.core import atomic_files
from zoo.core.npy import write_npy
from zoo.core.progress import Advance

Array = np.ndarray[Any, Any]
Item = TypeVar("Item")

BLOCK_SIZE = 2048  # items that are lost at most if a run is killed


def compute_cached(
    compute: Callable[[Sequence[Item]], Array],
    items: Sequence[Item],
    path: Path,
    *,
    block_size: int = BLOCK_SIZE,
    advance: Advance = lambda count: None,
) -> Array:
    """Return the rows (n, …) float32 of n items, mapped from the file `path`, which is made if it is not there or damaged.

    Until the file is complete, its blocks lie in a folder beside it, each written whole or not at all. The name of the file
    must hold a hash of the items and of all that the rows depend on; see `compute_digest`.

    Args:
        compute: returns the rows (b, …) of b items, the same whatever other items are in the block.
        items: only slices are read, so they need not be in memory.
        path: ends in .npy.
        block_size: items of one block.
        advance: called with the number of items after each block.
    """
    folder = path.with_suffix(".blocks")
    if (rows := _read(path, len(items))) is None:
        write_npy(_iterate_blocks(compute, items, folder, block_size, advance), str(path))
        rows = _read(path, len(items))
    assert rows is not None  # it was written above
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def _iterate_blocks(
    compute: Callable[[Sequence[Item]], Array], items: Sequence[Item], folder: Path, block_size: int, advance: Advance
) -> Iterator[Array]:
    """Yield the blocks of rows in order. Those that an earlier run has written are read."""
    if not len(items):
        yield np.empty(0, np.float32)
    for start in range(0, len(items), block_size):
        block = items[start : start + block_size]
        path = folder / f"{start:012d}-{block_size}.npy"
        if (rows := _read(path, len(block))) is None:
            rows = np.asarray(compute(block), np.float32)
            with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
                np.save(file, rows)
        yield rows
        advance(len(block))


def _read(path: Path, count: int) -> Array | None:
    """Map the rows in a file, or return None if there are none, or not `count` rows of float32."""
    try:
        rows: Array = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape[:1] == (count,) and rows.dtype == np.float32 else None


def compute_digest(fingerprint: str, items: Sequence[Sequence[str] | str], block_size: int = BLOCK_SIZE) -> str:
    """Compute a short hash of a model's fingerprint and of texts, or tuples of texts of one length. Only slices are read.

    Lengths stand before the texts, so that no two lists have one hash.
    """
    state = hashlib.sha256(f"{len(fingerprint)} {fingerprint}".encode())
    for start in range(0, len(items), block_size):
        for item in items[start : start + block_size]:
            for text in (item,) if isinstance(item, str) else item:
                content = _encode(text)
                state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()[:24]


class RowsByText:
    """Look up the rows of an array by the texts, or by the tuples of texts, that they belong to.

    The lookup itself needs 16 bytes an item.

    Args:
        items: n texts or tuples of texts. Of equal items the first counts.
        rows: (n, …), for example as `compute_cached` returns them.
    """

    def __init__(self, items: Iterable[Sequence[str] | str], rows: Array) -> None:
        self._keys, self._places = np.unique(np.fromiter(map(_compute_key, items), np.int64), return_index=True)
        self._rows = rows

    def find(self, items: Sequence[Sequence[str] | str]) -> Array:
        """Return the rows (n, …) of n items. Raises KeyError for an item that `__init__` did not get."""
        keys = np.fromiter(map(_compute_key, items), np.int64, len(items))
        places = np.searchsorted(self._keys, keys).clip(max=max(0, len(self._keys) - 1))
        is_known = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        if not is_known.all():
            raise KeyError(items[int(np.flatnonzero(~is_known)[0])])
        return np.array(self._rows[self._places[places]])


def _compute_key(item: Sequence[str] | str) -> int:
    contents = [_encode(text) for text in ((item,) if isinstance(item, str) else item)]
    content = b"".join(len(part).to_bytes(8, "little") + part for part in contents)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
