"""Write the rows and vectors of an index: first everything in the order of the rows, then the vectors as they are stored.

Rows go to rows.parquet and vectors to one temporary file while they are encoded, so the memory holds one block. The type of
the index is chosen and trained when all vectors are on the disk, since the first rows of a file are often alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.core import npy
from zoo.index.arrays import Numbers, Vectors
from zoo.index.folder import Change, ShardEntry
from zoo.index.rows import Layout, RowSource, read_blocks
from zoo.index.shard import PLACES, ROWS, ROWS_OF_GROUP, Codec
from zoo.index.vectors import Encoded
from zoo.mining.vectors import Vectors as StoredVectors

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SHARD_ROWS = 1 << 20
READ_BLOCK = 1 << 14
Advance = Callable[[int], Any]


class Encodes(Protocol):
    """Gives the vectors of rows in order."""

    def encode_rows(self, inputs: list[Any]) -> Encoded: ...


@dataclass
class _OpenShard:
    """A shard whose rows are being written."""

    name: str
    rows: int = 0
    vectors: int = 0
    places: list[Numbers] = field(default_factory=list)


@dataclass(frozen=True)
class Written:
    """Rows that are on the disk with their vectors in one temporary file.

    Attributes:
        vectors: all vectors; one block is in memory at a time.
        shards: the new shards, whose vectors follow each other in `vectors`.
        files: names of the new files.
    """

    vectors: StoredVectors
    shards: tuple[ShardEntry, ...]
    files: tuple[str, ...]


class RowWriter:
    """Writes rows and vectors as they come."""

    def __init__(self, change: Change, layout: Layout, *, shard_rows: int = SHARD_ROWS, advance: Advance = int) -> None:
        self.change, self.layout, self.shard_rows, self.advance = change, layout, shard_rows, advance
        self._shards: list[_OpenShard] = []
        self._files: list[str] = []
        self._parquet: pq.ParquetWriter | None = None

    def write(self, source: RowSource, encoder: Encodes, next_number: int) -> Written:
        """Encode and write all rows of a source. Rows without ids are numbered from `next_number` on."""
        work = self.change.folder / self.change.name_file("work", ".npy")
        try:
            npy.write_npy(self._encode(source, encoder, next_number), str(work))
            self._finish_shard()
        finally:
            if self._parquet is not None:
                self._parquet.close()
        entries = tuple(ShardEntry(shard.name, shard.rows, shard.vectors) for shard in self._shards)
        return Written(StoredVectors(work), entries, tuple(self._files))

    def _encode(self, source: RowSource, encoder: Encodes, next_number: int) -> Iterator[Vectors]:
        for block in read_blocks(source, self.layout, next_number):
            encoded = encoder.encode_rows(block.inputs)
            for start in range(0, len(block.inputs), self.shard_rows):
                self._write_block(block.rows, encoded, start)
            yield encoded.vectors
            self.advance(len(block.inputs))

    def _write_block(self, rows: Any, encoded: Encoded, start: int) -> None:
        """Write the rows of a block from `start` on, at most as many as a shard holds."""
        part = rows.slice(start, self.shard_rows)
        if not self._shards or self._shards[-1].rows + len(part) > self.shard_rows:
            self._finish_shard()
            self._start_shard()
        shard = self._shards[-1]
        assert self._parquet is not None  # a shard was started
        self._parquet.write_table(part, row_group_size=ROWS_OF_GROUP)
        if encoded.places is None:
            shard.vectors += len(part)
        else:
            is_here = (encoded.places[:, 0] >= start) & (encoded.places[:, 0] < start + len(part))
            places = encoded.places[is_here] + np.array([shard.rows - start, 0, 0])
            shard.places.append(places)
            shard.vectors += len(places)
        shard.rows += len(part)

    def _start_shard(self) -> None:
        import pyarrow.parquet as pq

        name = self.change.name_shard()
        self._shards.append(_OpenShard(name))
        self._files.append(f"{name}{ROWS}")
        self._parquet = pq.ParquetWriter(self.change.folder / self._files[-1], self.layout.schema)

    def _finish_shard(self) -> None:
        if self._parquet is None:
            return
        self._parquet.close()
        self._parquet = None
        shard = self._shards[-1]
        if shard.places:
            self._files.append(f"{shard.name}{PLACES}")
            np.save(self.change.folder / self._files[-1], np.concatenate(shard.places), allow_pickle=False)
            shard.places = []


def store_vectors(change: Change, written: Written, codec: Codec) -> list[str]:
    """Write the vectors of all new shards as the codec stores them, and return the names of the files."""
    names, start = [], 0
    for entry in written.shards:
        blocks = iterate_blocks(written.vectors, start, start + entry.vectors)
        names += codec.write(blocks, change.folder, entry.name)
        start += entry.vectors
    return names


def iterate_blocks(vectors: Any, start: int, end: int) -> Iterator[Vectors]:
    """Yield the vectors from `start` to `end` in blocks."""
    for first in range(start, end, READ_BLOCK):
        yield np.asarray(vectors[first : min(first + READ_BLOCK, end)], np.float32)


def merge_rows(
    sources: Sequence[tuple[Any, Any]], layout: Layout, folder: Path, shard: str
) -> tuple[ShardEntry, list[str]]:
    """Write the rows that the masks of open shards keep as one shard, and return it and the names of the files.

    Args:
        sources: (open shard, (rows,) bool) pairs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, count, vectors, places = [f"{shard}{ROWS}"], 0, 0, []
    with pq.ParquetWriter(folder / names[0], layout.schema) as writer:
        for source, mask in sources:
            start = 0
            for batch in source.iterate_rows():
                kept = pa.Table.from_batches([batch]).filter(pa.array(mask[start : start + len(batch)]))
                writer.write_table(kept, row_group_size=ROWS_OF_GROUP)
                start += len(batch)
            if source.places is not None:
                own = source.places[mask[source.places[:, 0]]]
                new_rows = (np.cumsum(mask) - 1 + count)[own[:, 0]]
                places.append(np.column_stack([new_rows, own[:, 1:]]))
            vectors += int(mask.sum()) if source.places is None else len(places[-1])
            count += int(mask.sum())
    if places:
        names.append(f"{shard}{PLACES}")
        np.save(folder / names[1], np.concatenate(places), allow_pickle=False)
    return ShardEntry(shard, count, vectors), names
