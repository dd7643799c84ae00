"""One shard of an index: up to a million rows, and the vectors that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ArtefactError
from zoo.index import folder as folders
from zoo.index.arrays import Mask, Numbers, Vectors, lacks_results

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.index.conditions import Condition

ROWS, PLACES = ".rows.parquet", ".places.npy"
ROWS_OF_GROUP = 1024
"""Rows that are read from the disk at once."""


class ShardVectors(Protocol):
    """The vectors of a shard, as a codec opens them."""

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Numbers]: ...


class Codec(Protocol):
    """How vectors are stored."""

    @property
    def name(self) -> str: ...

    @property
    def endings(self) -> tuple[str, ...]: ...

    @property
    def bytes_per_vector(self) -> int: ...

    def write(self, blocks: Any, folder: Path, shard: str) -> list[str]: ...

    def open(self, files: Sequence[Path]) -> ShardVectors: ...

    def merge(self, shards: Sequence[tuple[Sequence[Path], Mask]], folder: Path, shard: str) -> list[str]: ...


class Found(NamedTuple):
    """The best rows of queries.

    Attributes:
        scores: (m, k) float32, descending; -inf if fewer rows are left.
        rows: (m, k) int64 numbers of rows; -1 if fewer are left.
        vectors: (m, k) int64 numbers of the vectors that were nearest.
    """

    scores: Vectors
    rows: Numbers
    vectors: Numbers


class Shard:
    """An open shard. Its files were checked by their sha256.

    Attributes:
        name: its name in the manifest.
        vectors: what is searched.
        places: (v, 3) int64, see `zoo.index.vectors.Encoded`; None if each row has one vector.
    """

    def __init__(
        self, folder: Path, manifest: folders.Manifest, entry: folders.ShardEntry, codec: Codec, *, checks: bool = True
    ) -> None:
        import pyarrow.parquet as pq

        def find(ending: str) -> Path:
            name = f"{entry.name}{ending}"
            return folders.check_file(folder, manifest, name) if checks else folder / name

        self.name, self.count = entry.name, entry.rows
        self.vector_files = [find(ending) for ending in codec.endings]
        self.rows_file = find(ROWS)
        self._rows = pq.ParquetFile(self.rows_file, memory_map=True)
        has_places = f"{entry.name}{PLACES}" in manifest.files
        self.places: Numbers | None = np.load(find(PLACES), allow_pickle=False) if has_places else None
        self.vectors = codec.open(self.vector_files)
        self._columns: dict[str, pa.ChunkedArray] = {}
        if len(self.vectors) != entry.vectors or self._rows.metadata.num_rows != entry.rows:
            raise ArtefactError(f"{folder / self.name}: holds another number of rows than {folders.MANIFEST} says")

    def search(self, queries: Vectors, k: int, allowed: Mask | None) -> Found:
        """Return the k best rows of the shard among those that `allowed` (rows,) keeps. A row's score is its best vector's."""
        if self.places is None:
            scores, numbers = self.vectors.search(queries, k, allowed)
            return _fill(Found(scores, numbers, numbers), k)
        allowed_vectors = None if allowed is None else allowed[self.places[:, 0]]
        available = len(self.vectors) if allowed_vectors is None else int(allowed_vectors.sum())
        depth = k
        while True:
            depth = min(2 * depth, available)
            scores, numbers = self.vectors.search(queries, depth, allowed_vectors)
            found = _keep_best_vectors(scores, numbers, self.places[:, 0], k)
            if depth >= available or (found.rows >= 0).all():
                return found

    def read_columns(self, names: Iterable[str]) -> pa.Table:
        """Return some columns of all rows. They stay in memory for the next filter."""
        import pyarrow as pa

        names = list(names)
        missing = [name for name in names if name not in self._columns]
        if missing:
            table = self._rows.read(columns=missing)
            self._columns |= {name: table[name] for name in missing}
        return pa.table({name: self._columns[name] for name in names})

    def find_rows(self, condition: Condition) -> Mask:
        """Return which rows (rows,) fulfil a condition."""
        import pyarrow as pa

        table = self.read_columns(condition.columns).append_column("", pa.array(np.arange(self.count)))
        mask = np.zeros(self.count, bool)
        mask[table.filter(condition.expression)[""].to_numpy()] = True
        return mask

    def read_rows(self, numbers: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Return the rows of these numbers. Only the groups that hold them are read."""
        by_group: dict[int, list[int]] = {}
        starts = self._group_starts()
        for number in numbers:
            by_group.setdefault(int(np.searchsorted(starts, number, side="right")) - 1, []).append(number)
        rows: dict[int, Mapping[str, Any]] = {}
        for group, members in by_group.items():
            table = self._rows.read_row_group(group)
            chosen = table.take([number - int(starts[group]) for number in members])
            rows.update(zip(members, chosen.to_pylist(), strict=True))
        return rows

    def iterate_rows(self, columns: Sequence[str] | None = None) -> Iterable[pa.RecordBatch]:
        """Yield all rows in batches."""
        yield from self._rows.iter_batches(batch_size=ROWS_OF_GROUP, columns=columns)

    def _group_starts(self) -> npt.NDArray[np.int64]:
        metadata = self._rows.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def _keep_best_vectors(scores: Vectors, numbers: Numbers, rows: Numbers, k: int) -> Found:
    """Return the k best rows of each query from the scores of vectors, which descend."""
    found = _fill(Found(scores[:, :0], numbers[:, :0], numbers[:, :0]), k)
    for query, (own_scores, own_numbers) in enumerate(zip(scores, numbers, strict=True)):
        is_real = own_numbers >= 0
        own_rows = rows[own_numbers[is_real]]
        _, first = np.unique(own_rows, return_index=True)
        first = np.sort(first)[:k]
        found.scores[query, : len(first)] = own_scores[is_real][first]
        found.rows[query, : len(first)] = own_rows[first]
        found.vectors[query, : len(first)] = own_numbers[is_real][first]
    return found


def _fill(found: Found, k: int) -> Found:
    """Return results with k columns."""
    if found.rows.shape[1] == k and not lacks_results(found.rows):
        return found
    lacking = ((0, 0), (0, max(0, k - found.scores.shape[1])))
    scores = np.pad(found.scores, lacking, constant_values=-np.inf)
    rows, vectors = (np.pad(part, lacking, constant_values=-1) for part in (found.rows, found.vectors))
    scores[rows < 0] = -np.inf
    return Found(scores, rows, vectors)


def merge_found(parts: Sequence[Found], k: int) -> tuple[Found, Numbers]:
    """Return the k best rows of several shards, and the number (m, k) of the shard of each. Equal scores keep their order."""
    scores, rows, vectors = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    shards = np.concatenate([np.full(part.rows.shape, number) for number, part in enumerate(parts)], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = Found(*(np.take_along_axis(part, order, 1) for part in (scores, rows, vectors)))
    return best, np.take_along_axis(shards, order, 1)
