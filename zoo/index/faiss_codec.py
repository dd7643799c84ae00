"""Vectors of a shard in an index of faiss: codes of few bytes, with or without inverted lists.

Every type here takes a filter inside the search and gives its codes back, so that rows can be removed. Types without both are not
used: product quantisation takes no filter, and HNSW cannot remove.

RaBitQ: Gao et al., "Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors", SIGMOD 2025. Queries are
quantised to 8 bits, which is about 80 times as fast as float queries, at equal recall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.core import npy
from zoo.core.errors import ZooError
from zoo.index.arrays import Mask, Numbers, Vectors, lacks_results

QUERY_BITS = 8
RESCORED = 10
"""So many times k candidates are rescored by the int8 vectors."""
SMALL_SHARE = 0.02
"""If fewer vectors pass the filter, all inverted lists are searched."""


@dataclass(frozen=True)
class FaissType:
    """A type of index.

    Attributes:
        name: as it is printed, for example `IVF1000,RaBitQ4`.
        bits: bits of RaBitQ, 1 to 7; 8 for one byte a component with stored ranges; 0 for signs with int8 rescoring.
        lists: number of inverted lists; 0 for none.
    """

    bits: int
    lists: int = 0

    @property
    def name(self) -> str:
        code = {0: "sign+int8", 8: "int8"}.get(self.bits, f"RaBitQ{self.bits}")
        return f"IVF{self.lists},{code}" if self.lists else code

    @property
    def rescores(self) -> bool:
        """Whether an int8 vector is kept beside each code."""
        return self.bits == 0

    def make_factory_string(self, dim: int) -> str:
        """Return the description of the index for `faiss.index_factory`."""
        code = {0: "SQtqmse1", 1: "RaBitQ", 8: "SQ8"}.get(self.bits, f"RaBitQ{self.bits}")
        rotation = "" if self.bits == 8 else f"RR{dim},"
        return f"{rotation}{f'IVF{self.lists},' if self.lists else ''}{code}"

    def to_json(self) -> dict[str, int]:
        """Return the fields for model.json."""
        return asdict(self)


def import_faiss() -> Any:
    """Return the module faiss. Raise ZooError, which names the extra, if it is missing or too old."""
    try:
        import faiss
    except ImportError:
        raise ZooError(
            'this index needs faiss, which is not installed: pip install "embedding-zoo[faiss]"; or keep float vectors with '
            "--code float32"
        ) from None
    if not hasattr(faiss, "IVFRaBitQSearchParameters"):
        raise ZooError('this index needs faiss ≥ 1.15: pip install -U "embedding-zoo[faiss]"')
    return faiss


def train(kind: FaissType, sample: Vectors) -> Any:
    """Return an empty index of faiss that was trained on `sample` (n, d)."""
    faiss = import_faiss()
    index = faiss.index_factory(sample.shape[1], kind.make_factory_string(sample.shape[1]), faiss.METRIC_INNER_PRODUCT)
    if kind.lists:
        lists = faiss.extract_index_ivf(index)
        lists.cp.max_points_per_centroid = max(256, len(sample) // kind.lists + 1)
        lists.cp.seed = 1234
    index.train(np.ascontiguousarray(sample, np.float32))
    return index


def copy_index(index: Any) -> Any:
    """Return a copy of an index."""
    faiss = import_faiss()
    return faiss.deserialize_index(faiss.serialize_index(index))


def get_inner(index: Any) -> Any:
    """Return the index below a rotation, with its own type."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def get_centroids(index: Any, sample: Vectors) -> Vectors:
    """Return the points (c, d) to which vectors are near if they are like the training sample.

    These are the centroids of the inverted lists. They are rotated as the vectors are. Without lists it is the mean.
    """
    inner = get_inner(index)
    if not hasattr(inner, "quantizer"):
        mean: Vectors = sample.mean(0, keepdims=True)
        return mean
    centroids: Vectors = inner.quantizer.reconstruct_n(0, inner.nlist)
    faiss = import_faiss()
    outer = faiss.downcast_index(index)
    if isinstance(outer, faiss.IndexPreTransform):
        centroids = faiss.downcast_VectorTransform(outer.chain.at(0)).reverse_transform(centroids)
    return centroids


class FaissCodec:
    """Stores vectors in an index of faiss.

    Attributes:
        kind: the type of the index.
        trained: the empty trained index.
        ranges: (2, d) smallest and largest value of each component in the training sample, for int8 rescoring.
        probes: the number of inverted lists that a search reads.
    """

    def __init__(self, kind: FaissType, trained: Any, ranges: Vectors, probes: int = 1) -> None:
        self.kind, self.trained, self.ranges, self.probes = kind, trained, ranges, probes

    @property
    def name(self) -> str:
        """The name of the code."""
        return self.kind.name

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of all files of a shard's vectors."""
        return (".faiss", ".int8.npy") if self.kind.rescores else (".faiss",)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one vector, with the number and the list that inverted lists keep, and with the int8 vector."""
        code: int = get_inner(self.trained).code_size
        return code + 8 * bool(self.kind.lists) + (self.trained.d if self.kind.rescores else 0)

    def write(self, blocks: Iterator[Vectors], folder: Path, shard: str) -> list[str]:
        """Write the vectors of a shard, and return the names of the files."""
        faiss = import_faiss()
        index, names = copy_index(self.trained), [f"{shard}.faiss"]

        def add() -> Iterator[Any]:
            for block in blocks:
                index.add(np.ascontiguousarray(block, np.float32))
                yield self.to_int8(block) if self.kind.rescores else block[:0]

        if self.kind.rescores:
            names.append(f"{shard}.int8.npy")
            npy.write_npy(add(), str(folder / names[1]))
        else:
            for _ in add():
                pass
        faiss.write_index(index, str(folder / names[0]))
        return names

    def open(self, files: Sequence[Path]) -> FaissVectors:
        """Open the vectors of a shard, whose files were checked by their sha256."""
        index = import_faiss().read_index(str(files[0]))
        int8 = np.load(files[1], mmap_mode="r", allow_pickle=False) if self.kind.rescores else None
        return FaissVectors(self, index, int8)

    def merge(self, shards: Sequence[tuple[Sequence[Path], Mask]], folder: Path, shard: str) -> list[str]:
        """Write the vectors of several shards that the masks keep as one shard. Codes are copied, not made anew."""
        faiss = import_faiss()
        merged, names, start = copy_index(self.trained), [f"{shard}.faiss"], 0
        for files, mask in shards:
            append_codes(merged, faiss.read_index(str(files[0])), mask, start)
            start += int(mask.sum())
        faiss.write_index(merged, str(folder / names[0]))
        if self.kind.rescores:
            names.append(f"{shard}.int8.npy")
            parts = ((np.load(files[1], mmap_mode="r", allow_pickle=False), mask) for files, mask in shards)
            npy.write_npy((np.array(stored[mask]) for stored, mask in parts), str(folder / names[1]))
        return names

    def to_int8(self, vectors: Vectors) -> Any:
        """Return one byte a component, by the stored ranges. Values outside them are cut."""
        low, high = self.ranges
        step = np.maximum((high - low) / 255, np.finfo(np.float32).tiny)
        return np.clip(np.rint((vectors - low) / step), 0, 255).astype(np.uint8)

    def from_int8(self, codes: Any) -> Vectors:
        """Return the vectors that the bytes stand for."""
        low, high = self.ranges
        vectors: Vectors = codes.astype(np.float32) * ((high - low) / 255) + low
        return vectors


class FaissVectors:
    """The vectors of one shard."""

    def __init__(self, codec: FaissCodec, index: Any, int8: Any) -> None:
        faiss = import_faiss()
        self.codec, self.index, self.int8 = codec, index, int8
        self._count = int(index.ntotal)
        self._is_rotated = isinstance(faiss.downcast_index(index), faiss.IndexPreTransform)
        self._parameters: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Numbers]:
        """Return scores and numbers (m, min(k, vectors that are allowed)) of the best vectors, the best first.

        Inverted lists that were not searched may hold vectors that pass a filter; then all lists are searched.
        """
        available = self._count if allowed is None else int(allowed.sum())
        count = min(k, available)
        if not count:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        depth = min(available, count * RESCORED) if self.int8 is not None else count
        lists, probes = self.codec.kind.lists, self.codec.probes
        if allowed is not None and available < SMALL_SHARE * self._count:
            probes = lists
        scores, numbers = self._search(queries, depth, allowed, probes)
        if probes < lists and lacks_results(numbers):
            short = numbers[:, -1] < 0
            scores[short], numbers[short] = self._search(queries[short], depth, allowed, lists)
        return (scores, numbers) if self.int8 is None else self._rescore(queries, numbers, count)

    def _search(self, queries: Vectors, k: int, allowed: Mask | None, probes: int) -> tuple[Vectors, Numbers]:
        if allowed is not None:
            parameters = self._make_parameters(probes, allowed)
        elif probes in self._parameters:
            parameters = self._parameters[probes]
        else:  # they are kept, because making them takes a good part of a search
            parameters = self._parameters[probes] = self._make_parameters(probes, None)
        found: tuple[Vectors, Numbers] = self.index.search(queries, k, params=parameters)  # which makes float32 of them
        return found

    def _make_parameters(self, probes: int, allowed: Mask | None) -> Any:
        """Return the parameters of a search in so many lists, among vectors (n,) that are allowed."""
        faiss = import_faiss()
        options: dict[str, Any] = {}
        if allowed is not None:
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.codec.kind.lists:
            options["nprobe"] = probes
        if 1 <= self.codec.kind.bits < 8:
            options["qb"] = QUERY_BITS
            make = faiss.IVFRaBitQSearchParameters if self.codec.kind.lists else faiss.RaBitQSearchParameters
        else:
            make = faiss.SearchParametersIVF if self.codec.kind.lists else faiss.SearchParameters
        parameters = make(**options)
        return faiss.SearchParametersPreTransform(index_params=parameters) if self._is_rotated else parameters

    def _rescore(self, queries: Vectors, numbers: Numbers, k: int) -> tuple[Vectors, Numbers]:
        """Order the candidates (m, c) by their int8 vectors, and return the k best."""
        vectors = self.codec.from_int8(np.asarray(self.int8[numbers.ravel().clip(0)])).reshape(*numbers.shape, -1)
        scores = np.einsum("md,mcd->mc", queries, vectors)
        scores[numbers < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)


def append_codes(target: Any, source: Any, mask: Mask, start: int) -> None:
    """Append the vectors of `source` that `mask` keeps to `target`, with the numbers from `start` on.

    Both are copies of one trained index, so that the codes of one mean the same in the other.
    """
    faiss = import_faiss()
    inner, other = get_inner(target), get_inner(source)
    if hasattr(inner, "invlists"):
        new_numbers = np.cumsum(mask) - 1 + start
        for number in range(other.nlist):
            size = other.invlists.list_size(number)
            if not size:
                continue
            ids = faiss.rev_swig_ptr(other.invlists.get_ids(number), size).copy()
            codes = faiss.rev_swig_ptr(other.invlists.get_codes(number), size * other.code_size).reshape(size, -1)
            kept = mask[ids]
            ids, codes = np.ascontiguousarray(new_numbers[ids[kept]], np.int64), np.ascontiguousarray(codes[kept])
            if len(ids):
                inner.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    else:
        stored = faiss.vector_to_array(other.codes).reshape(-1, other.code_size)
        codes = np.concatenate([faiss.vector_to_array(inner.codes).reshape(-1, inner.code_size), stored[mask]])
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), inner.codes)
    inner.ntotal += int(mask.sum())
    if target is not inner:
        target.ntotal = inner.ntotal
