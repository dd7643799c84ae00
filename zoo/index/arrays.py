"""Vectors of a shard that are stored as one array: floats, bits of a binary encoder, or the codes of a step after training.

They are searched exactly, in blocks that are decoded when they are needed, so memory does not grow with the number of vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.core import npy

if TYPE_CHECKING:
    from zoo.after.step import CodeStep

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Decode = Callable[[Any], Vectors]
BLOCK = 1 << 14  # vectors
EXACT_CODES = ("float32", "bits")
"""Codes that are the vectors themselves."""


def take_rows(vectors: Any, numbers: Numbers) -> Vectors:
    """Return the vectors of these ascending numbers, read in blocks.

    A mapped file that is read at random places keeps all its pages in memory. So each block is mapped anew and dropped.
    """
    if not len(numbers):
        return np.asarray(vectors[numbers], np.float32)
    cuts = np.searchsorted(numbers, np.arange(0, int(numbers[-1]) + BLOCK + 1, BLOCK))
    parts = []
    for block, (first, last) in enumerate(pairwise(cuts.tolist())):
        if last > first:
            start = block * BLOCK
            rows = np.asarray(vectors[start : start + BLOCK])
            parts.append(np.asarray(rows[numbers[first:last] - start], np.float32))
    return np.concatenate(parts)


def lacks_results(numbers: Numbers) -> bool:
    """Return whether a query of results (m, k), k ≥ 1, found fewer than k. -1 stands at the end for nothing."""
    if len(numbers) == 1:  # a single query, for which an operation on arrays takes a visible part of the search
        return bool(numbers.item(-1) < 0)
    return bool((numbers[:, -1] < 0).any())


class ArrayCodec:
    """Stores vectors as rows of a .npy file.

    Attributes:
        name: the name of the code in model.json.
        ending: the ending of the file.
        bytes_per_vector: bytes of one row.
    """

    def __init__(
        self,
        name: str,
        ending: str,
        bytes_per_vector: int,
        encode: Callable[[Vectors], Any],
        decode: Decode,
        transform_queries: Callable[[Vectors], Vectors] = lambda queries: queries,
    ) -> None:
        self.name, self.ending, self.bytes_per_vector = name, ending, bytes_per_vector
        self._encode, self._decode, self._transform = encode, decode, transform_queries

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of all files of a shard's vectors."""
        return (self.ending,)

    def write(self, blocks: Iterator[Vectors], folder: Path, shard: str) -> list[str]:
        """Write the vectors of a shard, and return the names of the files."""
        name = f"{shard}{self.ending}"
        npy.write_npy((np.ascontiguousarray(self._encode(block)) for block in blocks), str(folder / name))
        return [name]

    def open(self, files: Sequence[Path]) -> ArrayVectors:
        """Open the vectors of a shard."""
        return ArrayVectors(np.load(files[0], mmap_mode="r", allow_pickle=False), self._decode, self._transform)

    def merge(self, shards: Sequence[tuple[Sequence[Path], Mask]], folder: Path, shard: str) -> list[str]:
        """Write the vectors of several shards that the masks keep as one shard."""
        name = f"{shard}{self.ending}"

        def read() -> Iterator[npt.NDArray[Any]]:
            for files, mask in shards:
                stored = np.load(files[0], mmap_mode="r", allow_pickle=False)
                for start in range(0, len(stored), BLOCK):
                    yield np.array(stored[start : start + BLOCK][mask[start : start + BLOCK]])

        npy.write_npy(read(), str(folder / name))
        return [name]


class ArrayVectors:
    """The vectors of one shard."""

    def __init__(self, stored: Any, decode: Decode, transform_queries: Callable[[Vectors], Vectors]) -> None:
        self._stored, self._decode, self._transform = stored, decode, transform_queries

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, numbers: Numbers) -> Vectors:
        """Return the decoded vectors (n, d) float32 of these ascending numbers (n,)."""
        return np.asarray(self._decode(np.ascontiguousarray(self._stored[numbers])), np.float32)

    def search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Numbers]:
        """Return scores and numbers (m, min(k, vectors that are allowed)) of the best vectors, the best first."""
        from zoo.ops import exact_search

        if allowed is None:
            return exact_search.search(self._transform(queries), _Decoded(self._stored, self._decode), k)
        numbers = np.flatnonzero(allowed)
        if not len(numbers):
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, places = exact_search.search(self._transform(queries), _Decoded(self._stored, self._decode, numbers), k)
        return scores, numbers[places]


class _Decoded:
    """The rows of a stored array as float vectors; of some of them, if their numbers are given."""

    def __init__(self, stored: Any, decode: Decode, numbers: Numbers | None = None) -> None:
        self._stored, self._decode, self._numbers = stored, decode, numbers

    def __len__(self) -> int:
        return len(self._stored) if self._numbers is None else len(self._numbers)

    def __getitem__(self, rows: slice) -> Vectors:
        chosen = self._stored[rows] if self._numbers is None else self._stored[self._numbers[rows]]
        return self._decode(np.ascontiguousarray(chosen))


def make_float_codec(dim: int) -> ArrayCodec:
    """Return the codec of float32 vectors."""
    return ArrayCodec("float32", ".vectors.npy", 4 * dim, lambda v: v.astype(np.float32), lambda v: v)


def make_bit_codec(dim: int) -> ArrayCodec:
    """Return the codec of vectors of ±1, which are packed to bits."""
    from zoo.ops import codes

    return ArrayCodec("bits", ".codes.npy", (dim + 7) // 8, codes.pack, lambda packed: unpack_signs(packed, dim))


def unpack_signs(packed: Any, dim: int) -> Vectors:
    """Return packed bits (n, bytes) as vectors of ±1 (n, dim) float32. Their inner product is dim − 2 × Hamming distance."""
    bits = np.unpackbits(np.asarray(packed, np.uint8), axis=1, count=dim)
    return bits.astype(np.float32) * 2 - 1


def make_step_codec(step: CodeStep) -> ArrayCodec:
    """Return the codec of a step after training that turns vectors into codes."""
    return ArrayCodec("step", ".codes.npy", step.bytes_per_vector, step.encode, step.decode, step.transform_queries)
